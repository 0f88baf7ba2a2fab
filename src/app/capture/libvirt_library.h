// libvirt's client library, loaded when somebody asks for it: the analyser runs on machines without it.
#pragma once

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "app/capture/failure.h"

namespace unhang::app::capture {

// The functions that we call, by their names, with their types from the header.
#define UNHANG_LIBVIRT_FUNCTIONS(X)   \
  X(virInitialize)                    \
  X(virSetErrorFunc)                  \
  X(virGetLastError)                  \
  X(virConnectOpenAuth)               \
  X(virConnectClose)                  \
  X(virDomainLookupByName)            \
  X(virDomainLookupByUUIDString)      \
  X(virDomainLookupByID)              \
  X(virDomainFree)                    \
  X(virDomainGetName)                 \
  X(virDomainGetInfo)                 \
  X(virDomainGetState)                \
  X(virDomainResume)                  \
  X(virDomainCoreDump)                \
  X(virDomainCoreDumpWithFormat)      \
  X(virEventRegisterDefaultImpl)      \
  X(virEventRunDefaultImpl)           \
  X(virEventAddTimeout)               \
  X(virEventRemoveTimeout)            \
  X(virConnectDomainEventRegisterAny) \
  X(virConnectDomainEventDeregisterAny)

struct LibvirtLibrary {
#define UNHANG_LIBVIRT_POINTER(name) decltype(&::name) name = nullptr;
  UNHANG_LIBVIRT_FUNCTIONS(UNHANG_LIBVIRT_POINTER)
#undef UNHANG_LIBVIRT_POINTER
  virConnectAuthPtr auth = nullptr;  // asks for passwords on the terminal where a connection needs them
};

// Errors: it is not installed, or too old.
Outcome<const LibvirtLibrary*> load_libvirt();

}  // namespace unhang::app::capture
