#include "waits/logon.h"

#include <algorithm>
#include <string_view>

#include "base/ascii.h"

namespace unhang::waits {

namespace {

constexpr std::string_view kLogon[] = {"winlogon.exe", "logonui.exe",  "lsass.exe",
                                       "csrss.exe",    "services.exe", "smss.exe",
                                       "wininit.exe",  "userinit.exe", "lsaiso.exe"};
constexpr std::string_view kDesktop[] = {"explorer.exe", "dwm.exe", "consent.exe", "rdpclip.exe",
                                         "sihost.exe"};

}  // namespace

bool is_on_logon_path(const std::string& process) {
  return std::ranges::find(kLogon, lower(process)) != std::end(kLogon);
}

bool is_logon_critical(const std::string& process) {
  return is_on_logon_path(process) || std::ranges::find(kDesktop, lower(process)) != std::end(kDesktop);
}

}  // namespace unhang::waits
