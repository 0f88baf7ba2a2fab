// Run-time library: memory, strings, the debug console.
#include "ntp.h"

void* memset(void* to, int value, ULONG64 size) {
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
  return to;
}

void* memcpy(void* to, const void* from, ULONG64 size) {
  UCHAR* p = to;
  const UCHAR* q = from;
  while (size--) *p++ = *q++;
  return to;
}

void RtlInitUnicodeString(UNICODE_STRING* string, const WCHAR* text) {
  USHORT length = 0;
  while (text[length]) length++;
  string->Length = (USHORT)(length * 2);
  string->MaximumLength = (USHORT)(length * 2 + 2);
  string->Buffer = (WCHAR*)text;
}

WCHAR RtlUpcaseUnicodeChar(WCHAR c) {
  return c >= 'a' && c <= 'z' ? (WCHAR)(c - 'a' + 'A') : c;
}

// The curtain. Processor 1 compares names when the machine is to freeze. So that the dump does not depend on
// when that is, it stops at one certain comparison, waits until the other processor sleeps, and calls QEMU's
// pvpanic device, which freezes the machine at this instruction.
#define LAST_COMPARISON 150000

FORCEINLINE void KiFreezeAtLastComparison(void) {
  static ULONG comparisons;
  if (KeGetCurrentPrcb()->Number != 1 || ++comparisons != LAST_COMPARISON) return;
  while (KiLastProcessorIdle == 0) _mm_pause();
  for (ULONG i = 0; i < 1000; i++) _mm_pause();  // it has some instructions to go
  WRITE_PORT_UCHAR(0x505, 1);
}

BOOLEAN RtlEqualUnicodeString(const UNICODE_STRING* a, const UNICODE_STRING* b, BOOLEAN ignore_case) {
  KiFreezeAtLastComparison();
  if (a->Length != b->Length) return FALSE;
  for (ULONG i = 0; i < a->Length / 2; i++) {
    WCHAR x = a->Buffer[i], y = b->Buffer[i];
    if (x != y && (!ignore_case || RtlUpcaseUnicodeChar(x) != RtlUpcaseUnicodeChar(y))) return FALSE;
  }
  return TRUE;
}

// The next short name of a long one: its first six characters, a tilde, a number; from the fifth on a hash of
// the long name takes the place of four characters (documented behaviour of 8.3 names on NTFS).
void RtlGenerate8dot3Name(const UNICODE_STRING* name, BOOLEAN allow_extended, GENERATE_NAME_CONTEXT* context,
                          UNICODE_STRING* name8dot3) {
  if (context->NameLength == 0) {
    for (ULONG i = 0; i < name->Length / 2 && context->NameLength < 6; i++)
      context->NameBuffer[context->NameLength++] = RtlUpcaseUnicodeChar(name->Buffer[i]);
  }
  ULONG number = ++context->LastIndexValue, length = 0;
  WCHAR* out = name8dot3->Buffer;
  if (number <= 4) {
    while (length < context->NameLength) out[length] = context->NameBuffer[length], length++;
  } else {
    ULONG hash = 0;
    for (ULONG i = 0; i < name->Length / 2; i++) hash = hash * 37 + name->Buffer[i];
    hash += number / 9;
    out[length++] = context->NameBuffer[0];
    out[length++] = context->NameBuffer[1];
    for (ULONG i = 0; i < 4; i++, hash >>= 4) out[length++] = L"0123456789ABCDEF"[hash & 15];
  }
  out[length++] = '~';
  out[length++] = (WCHAR)('1' + (number - 1) % 9);
  name8dot3->Length = (USHORT)(length * 2);
}

// ---- spin locks; IRQL is CR8 on x64 ----

ULONG64 KeAcquireSpinLockRaiseToDpc(volatile ULONG64* lock) {
  ULONG64 irql = KeGetPcr()->Irql;
  __writecr8(DISPATCH_LEVEL);
  KeGetPcr()->Irql = DISPATCH_LEVEL;
  while (__sync_lock_test_and_set(lock, 1) != 0) _mm_pause();
  return irql;
}

void KeReleaseSpinLock(volatile ULONG64* lock, ULONG64 irql) {
  __sync_lock_release(lock);
  KeGetPcr()->Irql = (UCHAR)irql;
  __writecr8(irql);
}

// ---- debug console: port 0xe9, QEMU's -debugcon ----

static void KdpPutChar(CHAR c) {
  WRITE_PORT_UCHAR(0xe9, (UCHAR)c);
}

static void KdpPutNumber(ULONG64 value, ULONG base, ULONG digits) {
  CHAR text[20];
  ULONG n = 0;
  do {
    text[n++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0 || n < digits);
  while (n != 0) KdpPutChar(text[--n]);
}

static void KdpPutString(const UNICODE_STRING* s) {
  for (ULONG i = 0; i < s->Length / 2; i++) KdpPutChar((CHAR)s->Buffer[i]);
}

// %s text, %u decimal, %x hexadecimal, %p address, %c, %Z UNICODE_STRING*.
ULONG DbgPrint(const char* format, ...) {
  __builtin_va_list arguments;
  __builtin_va_start(arguments, format);
  for (; *format; format++) {
    if (*format != '%') {
      KdpPutChar(*format);
      continue;
    }
    switch (*++format) {
      case 's':
        for (const char* s = __builtin_va_arg(arguments, const char*); *s; s++) KdpPutChar(*s);
        break;
      case 'u':
        KdpPutNumber(__builtin_va_arg(arguments, ULONG64), 10, 1);
        break;
      case 'x':
        KdpPutNumber(__builtin_va_arg(arguments, ULONG64), 16, 1);
        break;
      case 'p':
        KdpPutNumber(__builtin_va_arg(arguments, ULONG64), 16, 16);
        break;
      case 'c':
        KdpPutChar((CHAR) __builtin_va_arg(arguments, ULONG64));
        break;
      case 'Z':
        KdpPutString(__builtin_va_arg(arguments, const UNICODE_STRING*));
        break;
      default:
        KdpPutChar(*format);
        break;
    }
  }
  __builtin_va_end(arguments);
  return 0;
}
