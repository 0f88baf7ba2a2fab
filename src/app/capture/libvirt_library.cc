#include "app/capture/libvirt_library.h"

#include <dlfcn.h>

#include "base/format.h"

namespace unhang::app::capture {

namespace {

constexpr const char* kLibrary = "libvirt.so.0";

Outcome<LibvirtLibrary> load() {
  // Never unloaded: libvirt keeps threads and thread-local data.
  void* handle = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr)
    return mistake(
        fmt::format("libvirt's client library is not installed ({}, Debian's libvirt0): install it, or "
                    "name QEMU's own socket with --qmp",
                    kLibrary));
  LibvirtLibrary l;
  const char* missing = nullptr;
#define UNHANG_LIBVIRT_LOAD(name)                                    \
  l.name = reinterpret_cast<decltype(l.name)>(dlsym(handle, #name)); \
  if (l.name == nullptr) missing = #name;
  UNHANG_LIBVIRT_FUNCTIONS(UNHANG_LIBVIRT_LOAD)
#undef UNHANG_LIBVIRT_LOAD
  if (missing != nullptr) return mistake(fmt::format("{} is too old: it lacks {}", kLibrary, missing));
  if (void* auth = dlsym(handle, "virConnectAuthPtrDefault")) l.auth = *static_cast<virConnectAuthPtr*>(auth);
  if (l.virInitialize() != 0) return trouble(fmt::format("{} does not start", kLibrary));
  // Else it prints every error by itself.
  l.virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
  return l;
}

}  // namespace

Outcome<const LibvirtLibrary*> load_libvirt() {
  static const Outcome<LibvirtLibrary> library = load();
  if (!library) return std::unexpected(library.error());
  return &*library;
}

}  // namespace unhang::app::capture
