#include "app/symbols/need.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/format.h"

namespace unhang::app {

namespace {

class Collector {
 public:
  Collector(Session& session, const NeedOptions& options) : session_(session), options_(options) {}

  std::vector<NeededModule> run() {
    const nt::Target& t = session_.target();
    if (options_.whole_kernel)
      for (const auto& m : t.modules().all()) entry(t.module_at(m->base()), false);
    entry(t.module_at(t.kernel_base()), false);
    for (const waits::ThreadNode& thread : session_.world().threads) add_stack(thread.stack);
    if (options_.whole_user)
      for (const waits::ProcessNode& p : session_.world().processes) add_process(p.process);
    std::vector<NeededModule> out;
    for (auto& [key, needed] : found_) out.push_back(needed);
    std::stable_sort(out.begin(), out.end(), [](const NeededModule& a, const NeededModule& b) {
      return std::pair(a.user, a.module->base()) < std::pair(b.user, b.module->base());
    });
    return out;
  }

 private:
  // The same file in several processes is one; without a GUID its name and size tell.
  NeededModule* entry(const nt::Module* m, bool user) {
    if (m == nullptr) return nullptr;
    const std::string key =
        m->pdb() ? m->pdb()->name + m->pdb()->key() : fmt::format("{}:{:x}", m->file_name(), m->size());
    NeededModule& n = found_[{user, key}];
    if (n.module == nullptr) n = {m, user};
    return &n;
  }

  void add_stack(const stack::ThreadStack& stack) {
    std::set<NeededModule*> here;
    for (size_t i = 0; i < stack.frames.size(); i++) {
      const bool user = !is_kernel(stack.frames[i].ip);
      if (user && !options_.user_on_stacks && !options_.whole_user) continue;
      NeededModule* n = entry(stack.modules[i], user);
      if (n != nullptr && here.insert(n).second) n->threads++;
    }
  }

  void add_process(const nt::Process& p) {
    if (p.peb.is_null()) return;
    for (const nt::Module* m : session_.stacks().modules_of(p.dtb, p.peb, p.wow64))
      if (NeededModule* n = entry(m, true)) n->processes++;
  }

  Session& session_;
  const NeedOptions& options_;
  std::map<std::pair<bool, std::string>, NeededModule> found_;
};

}  // namespace

std::vector<NeededModule> needed_modules(Session& session, const NeedOptions& options) {
  return Collector(session, options).run();
}

}  // namespace unhang::app
