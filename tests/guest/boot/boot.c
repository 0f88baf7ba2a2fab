// The boot loader: loads the PE images that multiboot put into memory, builds the kernel's address space as
// NT's own loader would leave it, and jumps to KiSystemStartup.
#include "../inc/loader.h"

typedef struct {
  ULONG flags, memory_lower, memory_upper, boot_device, command_line, module_count, modules;
} MULTIBOOT_INFO;

typedef struct {
  ULONG start, end, string, reserved;
} MULTIBOOT_MODULE;

extern char kernel_stub[], kernel_stub_end[], ap_start[], ap_start_end[];
extern ULONG64 ap_mailbox_offset, identity_pdpt[];

// Page table entries of NT: valid, accessed, dirty; global for memory of the whole system.
#define PTE_RW (0x163 | (1ull << 63))
#define PTE_RO (0x121 | (1ull << 63))
#define PTE_RX 0x121ull
#define PTE_UNCACHED 0x10ull
#define PTE_TABLE 0x63ull

// Where things lie. The addresses are of the kind that build 19041 chooses.
#define KERNEL_BASE 0xfffff80312a00000ull
#define DRIVER_BASE 0xfffff80416c40000ull
#define DRIVER_STRIDE 0x100000ull
#define LOADER_BASE 0xfffff80312000000ull
#define NONPAGED_POOL 0xffffa50c3a200000ull
#define NONPAGED_POOL_SIZE 0x400000ull
#define KPCR0 0xfffff803110c0000ull
#define KPCR1 0xffffe60081580000ull
#define LOCAL_APIC 0xfffff79000000000ull
#define IDLE_STACKS 0xfffff80312180000ull
#define USER_SHARED 0xfffff78000000000ull
#define EXE_BASE 0x7ff6a1230000ull
#define EXE_STRIDE 0x10000000ull
#define NTDLL_BASE 0x7ffd5e8f0000ull

#define FIRST_PAGE 0x800000ull  // physical; below lie the loader and the files
#define AP_PAGE 0x1000ull

static ULONG64 next_page = FIRST_PAGE;
static ULONG64 kernel_tables;
static LOADER_BLOCK block;

static void out(USHORT port, UCHAR value) {
  __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static void print(const char* s) {
  while (*s) out(0xe9, (UCHAR)*s++);
}

static void fail(const char* what, const char* which) {
  print("boot: ");
  print(what);
  print(which);
  print("\n");
  for (;;) __asm__ volatile("cli; hlt");
}

void* memset(void* to, int value, ULONG64 size) {
  UCHAR* p = to;
  while (size--) *p++ = (UCHAR)value;
  return to;
}

void* memcpy(void* to, const void* from, ULONG64 size) {
  UCHAR* p = to;
  const UCHAR* q = from;
  while (size--) *p++ = *q++;
  return to;
}

static BOOLEAN same(const char* a, const char* b) {
  for (; (*a | 0x20) == (*b | 0x20); a++, b++)
    if (*a == 0) return TRUE;
  return FALSE;
}

static BOOLEAN contains(const char* text, const char* word) {
  for (; *text; text++) {
    const char *t = text, *w = word;
    while (*w && *t == *w) t++, w++;
    if (*w == 0) return TRUE;
  }
  return FALSE;
}

static ULONG64 allocate(ULONG64 pages) {
  ULONG64 at = next_page;
  next_page += pages * PAGE_SIZE;
  return at;  // memory from FIRST_PAGE up is zero
}

// ---- page tables ----

static ULONG64* entry(ULONG64 root, ULONG64 va, int level) {
  ULONG64* table = (ULONG64*)root;
  for (int l = 3; l > level; l--) {
    ULONG64* e = &table[(va >> (12 + 9 * l)) & 511];
    if (*e == 0) *e = allocate(1) | PTE_TABLE;
    table = (ULONG64*)(*e & 0xffffffffff000ull);
  }
  return &table[(va >> (12 + 9 * level)) & 511];
}

static void map(ULONG64 va, ULONG64 pa, ULONG64 pages, ULONG64 flags) {
  for (ULONG64 i = 0; i < pages; i++)
    *entry(kernel_tables, va + i * PAGE_SIZE, 0) = (pa + i * PAGE_SIZE) | flags;
}

static void map_new(ULONG64 va, ULONG64 pages) {
  map(va, allocate(pages), pages, PTE_RW);
}

// ---- PE images (offsets: Microsoft's PE format specification) ----

static ULONG u32(const UCHAR* p) {
  return *(const ULONG*)p;
}
static USHORT u16(const UCHAR* p) {
  return *(const USHORT*)p;
}

static const UCHAR* optional_header(const UCHAR* image) {
  return image + u32(image + 0x3c) + 24;
}

static ULONG directory(const UCHAR* image, int index) {
  return u32(optional_header(image) + 112 + index * 8);
}

static ULONG64 find_export(const LOADED_IMAGE* image, const char* name) {
  const UCHAR* base = (const UCHAR*)image->Physical;
  const UCHAR* exports = base + directory(base, 0);
  const ULONG* functions = (const ULONG*)(base + u32(exports + 28));
  const ULONG* names = (const ULONG*)(base + u32(exports + 32));
  const USHORT* ordinals = (const USHORT*)(base + u32(exports + 36));
  for (ULONG i = 0; i < u32(exports + 24); i++)
    if (same((const char*)base + names[i], name)) return image->Base + functions[ordinals[i]];
  return 0;
}

static void relocate(UCHAR* image, ULONG64 to) {
  ULONG64* preferred = (ULONG64*)(optional_header(image) + 24);
  ULONG64 delta = to - *preferred;
  *preferred = to;
  const UCHAR* at = image + directory(image, 5);
  const UCHAR* end = at + u32(optional_header(image) + 112 + 5 * 8 + 4);
  for (; at < end && u32(at + 4) != 0; at += u32(at + 4))
    for (ULONG i = 8; i < u32(at + 4); i += 2)
      if (u16(at + i) >> 12 == 10)  // IMAGE_REL_BASED_DIR64
        *(ULONG64*)(image + u32(at) + (u16(at + i) & 0xfff)) += delta;
}

static void bind_imports(UCHAR* image) {
  if (directory(image, 1) == 0) return;
  for (const UCHAR* d = image + directory(image, 1); u32(d + 12) != 0; d += 20) {
    const char* dll = (const char*)image + u32(d + 12);
    const LOADED_IMAGE* from = NULL;
    for (ULONG i = 0; i < block.ImageCount; i++)
      if (same(block.Image[i].Name, dll)) from = &block.Image[i];
    if (from == NULL) fail("missing image ", dll);
    for (ULONG64* slot = (ULONG64*)(image + u32(d + 16)); *slot != 0; slot++) {
      const char* name = (const char*)image + *slot + 2;
      ULONG64 address = find_export(from, name);
      if (address == 0) fail("missing export ", name);
      *slot = address;
    }
  }
}

// The pages of a kernel image with the protection of their sections.
static void map_image(const UCHAR* image, ULONG64 va, ULONG size) {
  const UCHAR* sections = optional_header(image) + u16(image + u32(image + 0x3c) + 20);
  USHORT count = u16(image + u32(image + 0x3c) + 6);
  for (ULONG offset = 0; offset < size; offset += PAGE_SIZE) {
    ULONG64 flags = PTE_RO;
    for (int i = 0; i < count; i++) {
      const UCHAR* s = sections + i * 40;
      if (offset < u32(s + 12) || offset >= u32(s + 12) + ((u32(s + 8) + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)))
        continue;
      ULONG characteristics = u32(s + 36);
      if (characteristics & 0x80000000) flags = PTE_RW;
      if (characteristics & 0x20000000) flags &= ~(1ull << 63);
    }
    map(va + offset, (ULONG64)image + offset, 1, flags);
  }
}

static void load_image(const UCHAR* file, const char* name, ULONG64 va, BOOLEAN user) {
  const UCHAR* nt = file + u32(file + 0x3c);
  if (u32(nt) != 0x4550) fail("not a PE image: ", name);
  LOADED_IMAGE* out_image = &block.Image[block.ImageCount];
  out_image->Size = (u32(nt + 24 + 56) + 0xfff) & ~0xfffu;
  out_image->EntryRva = u32(nt + 24 + 16);
  out_image->Base = va;
  out_image->Physical = allocate(out_image->Size / PAGE_SIZE);
  for (int i = 0; name[i] && name[i] != ' ' && i < 23; i++) out_image->Name[i] = name[i];
  UCHAR* image = (UCHAR*)out_image->Physical;
  memcpy(image, file, u32(nt + 24 + 60));
  const UCHAR* s = nt + 24 + u16(nt + 20);
  for (int i = 0; i < u16(nt + 6); i++, s += 40) {
    ULONG raw = u32(s + 16), size = u32(s + 8);
    memcpy(image + u32(s + 12), file + u32(s + 20), raw < size ? raw : size);
  }
  relocate(image, va);
  bind_imports(image);
  if (!user) map_image(image, va, out_image->Size);
  block.ImageCount++;
  if (!user) block.KernelImageCount++;
}

static const char* file_name(const char* path) {
  const char* name = path;
  for (; *path && *path != ' '; path++)
    if (*path == '/') name = path + 1;
  return name;
}

static BOOLEAN ends_with(const char* name, const char* end) {
  ULONG n = 0;
  while (name[n] && name[n] != ' ') n++;
  for (ULONG i = 0; i < 4; i++)
    if ((name[n - 4 + i] | 0x20) != end[i]) return FALSE;
  return TRUE;
}

// Kernel, drivers, then user images; what is imported from comes first on the command line.
static void load_images(const MULTIBOOT_INFO* info) {
  const MULTIBOOT_MODULE* modules = (const MULTIBOOT_MODULE*)(ULONG64)info->modules;
  ULONG drivers = 0, programs = 0;
  for (ULONG i = 0; i < info->module_count; i++) {
    const char* name = file_name((const char*)(ULONG64)modules[i].string);
    const UCHAR* file = (const UCHAR*)(ULONG64)modules[i].start;
    if (modules[i].end > FIRST_PAGE) fail("no room for ", name);
    if (i == 0)
      load_image(file, name, KERNEL_BASE, FALSE);
    else if (ends_with(name, ".sys"))
      load_image(file, name, DRIVER_BASE + drivers++ * DRIVER_STRIDE, FALSE);
    else if (ends_with(name, ".dll"))
      load_image(file, name, NTDLL_BASE, TRUE);
    else
      load_image(file, name, EXE_BASE + programs++ * EXE_STRIDE, TRUE);
  }
}

// ---- the kernel's address space ----

static void map_processors(void) {
  const ULONG64 kpcr[LOADER_PROCESSORS] = {KPCR0, KPCR1};
  for (int i = 0; i < LOADER_PROCESSORS; i++) {
    block.Kpcr[i] = kpcr[i];
    map_new(kpcr[i], 12);
    map_new(kpcr[i] + 0x10000, 1);
    block.InitialStack[i] = IDLE_STACKS + (i + 1) * 0x8000;
    map_new(block.InitialStack[i] - 0x6000, 6);
  }
  block.Idt = KPCR0 + 0x12000;
  map_new(block.Idt, 1);
  block.LocalApic = LOCAL_APIC;
  map(LOCAL_APIC, 0xfee00000, 1, PTE_RW | PTE_UNCACHED);
}

static void map_pool(void) {
  next_page = (next_page + 0x1fffff) & ~0x1fffffull;
  block.NonPagedPool = NONPAGED_POOL;
  block.NonPagedPoolSize = NONPAGED_POOL_SIZE;
  block.NonPagedPoolPhysical = allocate(NONPAGED_POOL_SIZE / PAGE_SIZE);
  for (ULONG64 at = 0; at < NONPAGED_POOL_SIZE; at += 0x200000)
    *entry(kernel_tables, NONPAGED_POOL + at, 1) =
        (block.NonPagedPoolPhysical + at) | PTE_RW | 0x80;  // 2 MiB
}

// Memory behind the firmware's tables may hold its leftovers.
static void clear_memory(ULONG64 end) {
  for (volatile ULONG64* p = (ULONG64*)FIRST_PAGE; p < (ULONG64*)end; p++)
    if (*p != 0) *p = 0;
}

void boot_main(const MULTIBOOT_INFO* info) {
  if (info->module_count == 0) fail("no images", "");
  block.MemoryPages = (info->memory_upper >> 2) + 256;
  if (info->flags & 4) block.KdEncoded = contains((const char*)(ULONG64)info->command_line, "kdbg=encoded");
  clear_memory(block.MemoryPages * PAGE_SIZE);

  kernel_tables = allocate(1);
  block.KernelDirectoryTableBase = kernel_tables;
  ((ULONG64*)kernel_tables)[0x1ed] = kernel_tables | PTE_TABLE | (1ull << 63);  // PXE_SELFMAP_INDEX
  load_images(info);
  map_processors();
  map_pool();
  map_new(USER_SHARED, 1);

  // The stub that changes tables, the page where the second processor starts, and this block.
  ULONG64 stub = allocate(1);
  memcpy((void*)stub, kernel_stub, (ULONG64)(kernel_stub_end - kernel_stub));
  map(LOADER_BASE, stub, 1, PTE_RX);
  memcpy((void*)AP_PAGE, ap_start, (ULONG64)(ap_start_end - ap_start));
  map(LOADER_BASE + 0x1000, AP_PAGE, 1, PTE_RW);
  ULONG64 handed = allocate(1);
  map(LOADER_BASE + 0x2000, handed, 1, PTE_RW);

  // Tables for the way into the kernel: its half, and the identity map.
  ULONG64 bootstrap = allocate(1);
  memcpy((void*)bootstrap, (void*)kernel_tables, PAGE_SIZE);
  ((ULONG64*)bootstrap)[0] = (ULONG64)identity_pdpt | 3;
  ULONG64* mailbox = (ULONG64*)(AP_PAGE + ap_mailbox_offset);
  mailbox[3] = kernel_tables;
  mailbox[4] = LOADER_BASE;
  mailbox[5] = bootstrap;
  block.ApMailbox = (volatile ULONG64*)(LOADER_BASE + 0x1000 + ap_mailbox_offset);
  block.ApStartPage = AP_PAGE;
  block.LoaderEnd = FIRST_PAGE / PAGE_SIZE;
  block.FirstFreePage = next_page / PAGE_SIZE;
  memcpy((void*)handed, &block, sizeof block);

  __asm__ volatile("movq %0, %%cr3" ::"r"(bootstrap) : "memory");
  __asm__ volatile("jmp *%%rax" ::"a"(LOADER_BASE), "D"(kernel_tables), "S"(block.InitialStack[0]),
                   "d"(block.Image[0].Base + block.Image[0].EntryRva), "c"(LOADER_BASE + 0x2000));
}
