// Open files: FILE_OBJECT, its volume, and the file system's structure behind it (FsContext).
#pragma once

#include <optional>
#include <string>

#include "nt/object.h"
#include "nt/objects/device.h"

namespace unhang::nt {

struct FILE_OBJECT {
  static constexpr TypeName kType{"_FILE_OBJECT"};
  static inline const Member<u16> Type{kType, "Type"};
  static inline const Member<VirtAddr> DeviceObject{kType, "DeviceObject"};
  static inline const Member<VirtAddr> Vpb{kType, "Vpb"};
  static inline const Member<VirtAddr> FsContext{kType, "FsContext"};
  static inline const Member<VirtAddr> FsContext2{kType, "FsContext2"};
  static inline const Member<VirtAddr> SectionObjectPointer{kType, "SectionObjectPointer"};
  static inline const Member<VirtAddr> RelatedFileObject{kType, "RelatedFileObject"};
  static inline const Member<u32> Flags{kType, "Flags"};
  static inline const Member<UnicodeString> FileName{kType, kRequired, "FileName"};
  static inline const Member<u64> CurrentByteOffset{kType, "CurrentByteOffset"};
  static inline const Member<u8> LockOperation{kType, "LockOperation"};
  static inline const Member<u8> ReadAccess{kType, "ReadAccess"};
  static inline const Member<u8> WriteAccess{kType, "WriteAccess"};
  static inline const Member<u8> DeleteAccess{kType, "DeleteAccess"};
  static inline const Member<u8> SharedRead{kType, "SharedRead"};
  static inline const Member<u8> SharedWrite{kType, "SharedWrite"};
  static inline const Member<u8> SharedDelete{kType, "SharedDelete"};
  static inline const Member<u32> Waiters{kType, "Waiters"};
  static inline const Member<u32> Busy{kType, "Busy"};
  static inline const Member<Inside> Lock{kType, "Lock"};
  static inline const Member<Inside> Event{kType, "Event"};
};

// The public head of every file system's per-file structure (ntifs.h: FSRTL_ADVANCED_FCB_HEADER): it names
// the resources that guard the file.
struct FCB_HEADER {
  static constexpr TypeName kType{"_FSRTL_ADVANCED_FCB_HEADER"};
  static inline const Member<i16> NodeTypeCode{kType, "NodeTypeCode"};
  static inline const Member<VirtAddr> Resource{kType, "Resource"};
  static inline const Member<VirtAddr> PagingIoResource{kType, "PagingIoResource"};
  static inline const Member<u64> FileSize{kType, "FileSize"};
};

struct SECTION_OBJECT_POINTERS {
  static constexpr TypeName kType{"_SECTION_OBJECT_POINTERS"};
  static inline const Member<VirtAddr> DataSectionObject{kType, "DataSectionObject"};
  static inline const Member<VirtAddr> SharedCacheMap{kType, "SharedCacheMap"};
  static inline const Member<VirtAddr> ImageSectionObject{kType, "ImageSectionObject"};
};

struct FileObject {
  VirtAddr address{};
  std::string name;    // FileName as it stands; relative when `related` is set and the open is in progress
  std::string path;    // joined with RelatedFileObject: \Windows\Temp\x
  std::string volume;  // name of the volume's device: \Device\HarddiskVolume2
  std::string drive;   // "C:", empty when unknown
  VirtAddr device{}, vpb{}, fs_context{}, fs_context2{}, section_pointers{}, related{};
  u32 flags = 0;
  u64 current_offset = 0;
  bool read = false, write = false, del = false, shared_read = false, shared_write = false,
       shared_delete = false;
  std::optional<Error> name_error;  // the name could not be read (paged out)
  // "C:\Windows\Temp\x", else "\Device\HarddiskVolume2\Windows\Temp\x", else the path alone.
  std::string full_path() const;
};

struct FcbHeader {
  i16 node_type = 0;
  VirtAddr resource{}, paging_io_resource{};
  u64 file_size = 0;
};

bool is_file_object(const Target& target, VirtAddr va);
// Errors: those of reading its header, implausible (another type code).
Result<FileObject> read_file_object(const Target& target, const ObjectManager& objects, VirtAddr va);
// What FsContext points to. Errors: those of reading, implausible (resources that are no kernel pointers).
Result<FcbHeader> read_fcb_header(const Target& target, VirtAddr fs_context);

// FO_* names of the flags (public header wdm.h), for !fileobj.
std::vector<std::string_view> file_flag_names(u32 flags);

}  // namespace unhang::nt
