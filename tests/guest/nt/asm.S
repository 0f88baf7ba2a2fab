// The parts of the kernel that cannot be C: context switch, thread starts, system call, traps.
    .intel_syntax noprefix
    .text

    .macro PROC name
    .globl \name
    .def \name; .scl 2; .type 32; .endef
    .p2align 4
    .seh_proc \name
\name:
    .endm

// A name inside of a function; the public symbols of ntoskrnl have such as well.
    .macro LABEL name
    .globl \name
    .def \name; .scl 2; .type 32; .endef
\name:
    .endm

    .set THREAD_SYSTEM_CALL_NUMBER, 0x80
    .set THREAD_FIRST_ARGUMENT, 0x88
    .set THREAD_TRAP_FRAME, 0x90
    .set THREAD_KERNEL_STACK, 0x58

// void KiSwapContext(KTHREAD* old rcx, KTHREAD* new rdx). Saves what the calling convention preserves, as the
// real one does: its frame is 0x138 bytes on every x64 build.
PROC KiSwapContext
    sub rsp, 0x138
    .seh_stackalloc 0x138
    .irp n, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movaps [rsp + (\n - 3) * 16], xmm\n
    .seh_savexmm xmm\n, (\n - 3) * 16
    .endr
    mov [rsp + 0x100], rbx
    .seh_savereg rbx, 0x100
    mov [rsp + 0x108], rdi
    .seh_savereg rdi, 0x108
    mov [rsp + 0x110], rsi
    .seh_savereg rsi, 0x110
    mov [rsp + 0x118], r12
    .seh_savereg r12, 0x118
    mov [rsp + 0x120], r13
    .seh_savereg r13, 0x120
    mov [rsp + 0x128], r14
    .seh_savereg r14, 0x128
    mov [rsp + 0x130], r15
    .seh_savereg r15, 0x130
    .seh_endprologue
    call SwapContext
    .irp n, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movaps xmm\n, [rsp + (\n - 3) * 16]
    .endr
    mov rbx, [rsp + 0x100]
    mov rdi, [rsp + 0x108]
    mov rsi, [rsp + 0x110]
    mov r12, [rsp + 0x118]
    mov r13, [rsp + 0x120]
    mov r14, [rsp + 0x128]
    mov r15, [rsp + 0x130]
    add rsp, 0x138
    ret
    .seh_endproc

// Leaves a KSWITCH_FRAME (0x40 bytes: the return address is its last member) and takes the new thread's.
PROC SwapContext
    push rbp
    .seh_pushreg rbp
    sub rsp, 0x30
    .seh_stackalloc 0x30
    .seh_endprologue
    mov [rcx + THREAD_KERNEL_STACK], rsp
    mov rsp, [rdx + THREAD_KERNEL_STACK]
    add rsp, 0x30
    pop rbp
    ret
    .seh_endproc

// The first function of a system thread. KiInitializeContextThread left: 0 (the end of all walks), the thread's
// routine, its context.
PROC KiStartSystemThread
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    mov rcx, [rsp + 0x30]
    mov rdx, [rsp + 0x38]
    call PspSystemThreadStartup
    ud2
    .seh_endproc

// The first function of a user thread: goes to user mode with the registers that PspUserThreadStartup names.
PROC KiStartUserThread
    sub rsp, 0x28
    .seh_stackalloc 0x28
    .seh_endprologue
    mov rcx, [rsp + 0x30]
    call PspUserThreadStartup                 // -> { Rip, Rsp, Rcx, Rdx }
    cli
    push 0x2b
    push [rax + 8]
    push 0x202
    push 0x33
    push [rax]
    mov rcx, [rax + 0x10]
    mov rdx, [rax + 0x18]
    xor eax, eax
    xor ebx, ebx
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    xor r8d, r8d
    xor r9d, r9d
    swapgs
    iretq
    .seh_endproc

// SYSCALL lands here on the user's stack. The kernel stack is built as if an interrupt had pushed a machine frame;
// the unwind data say so, and stacks go on into user mode. (Order and offsets: KTRAP_FRAME of the public PDBs,
// and the description of the x64 system call path in Windows Internals.)
PROC KiSystemCall64
    swapgs
    mov gs:[0x10], rsp                        // KPCR.UserRsp
    mov rsp, gs:[0x1a8]                       // KPRCB.RspBase
    push 0x2b
    push gs:[0x10]
    push r11
    push 0x33
    push rcx
    .seh_pushframe
    sub rsp, 8
    .seh_stackalloc 8
    push rbp
    .seh_pushreg rbp
    sub rsp, 0x158
    .seh_stackalloc 0x158
    lea rbp, [rsp + 0x80]                     // rbp - 0x80: KTRAP_FRAME
    .seh_setframe rbp, 0x80
    mov [rbp + 0xc0], rbx
    .seh_savereg rbx, 0x140
    mov [rbp + 0xc8], rdi
    .seh_savereg rdi, 0x148
    mov [rbp + 0xd0], rsi
    .seh_savereg rsi, 0x150
    .seh_endprologue
    mov rcx, r10
    mov byte ptr [rbp - 0x58], 1              // PreviousMode: UserMode
    stmxcsr [rbp - 0x54]
    mov [rbp - 0x50], rax
    mov [rbp - 0x48], rcx
    mov [rbp - 0x40], rdx
    mov [rbp - 0x38], r8
    mov [rbp - 0x30], r9
LABEL KiSystemServiceUser
    mov rbx, gs:[0x188]
    mov [rbx + THREAD_FIRST_ARGUMENT], rcx
    mov [rbx + THREAD_SYSTEM_CALL_NUMBER], eax
    mov [rbx + THREAD_TRAP_FRAME], rsp
    sti
LABEL KiSystemServiceRepeat
    cmp eax, [rip + KiServiceLimit]
    jae KiSystemServiceInvalid
    lea r10, [rip + KiServiceTable]
    mov r10, [r10 + rax * 8]
    test r10, r10
    jz KiSystemServiceInvalid
    sub rsp, 0x70
    mov rsi, [rbp + 0x100]                    // the user's Rsp: return address, four homes, arguments
    add rsi, 0x28
    lea rdi, [rsp + 0x20]
LABEL KiSystemServiceCopyStart
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    mov rax, [rsi + \n * 8]
    mov [rdi + \n * 8], rax
    .endr
LABEL KiSystemServiceCopyEnd
    call r10
    add rsp, 0x70
LABEL KiSystemServiceExit
    cli
    mov rsi, [rbp + 0xd0]
    mov rdi, [rbp + 0xc8]
    mov rbx, [rbp + 0xc0]
    mov r11d, [rbp + 0xf8]
    mov rcx, [rbp + 0xe8]
    mov rsp, [rbp + 0x100]
    mov rbp, [rbp + 0xd8]
    swapgs
    sysretq
KiSystemServiceInvalid:
    mov eax, 0xC000001C
    jmp KiSystemServiceExit
    .seh_endproc

// Traps. Nothing in the scene should raise one: KiTrapNotExpected reports it and stops. The frames are NT's.
    .macro TRAP name, vector, error_code
    PROC \name
    .if \error_code
    .seh_pushframe @code
    .else
    .seh_pushframe
    sub rsp, 8
    .seh_stackalloc 8
    .endif
    push rbp
    .seh_pushreg rbp
    sub rsp, 0x158
    .seh_stackalloc 0x158
    lea rbp, [rsp + 0x80]
    .seh_setframe rbp, 0x80
    .seh_endprologue
    mov [rbp - 0x50], rax
    mov [rbp - 0x48], rcx
    mov [rbp - 0x40], rdx
    test byte ptr [rbp + 0xf0], 3             // SegCs
    jz 1f
    swapgs
1:  mov rax, cr2
    mov [rbp + 0x50], rax                     // FaultAddress
    mov rcx, rsp
    mov edx, \vector
    call KiTrapNotExpected
    ud2
    .seh_endproc
    .endm

    TRAP KiDivideErrorFault, 0, 0
    TRAP KiInvalidOpcodeFault, 6, 0
    TRAP KiDoubleFaultAbort, 8, 1
    TRAP KiGeneralProtectionFault, 13, 1
    TRAP KiPageFault, 14, 1
    TRAP KiUnexpectedInterruptNoCode, 0xff, 0
    TRAP KiUnexpectedInterruptCode, 0xfe, 1

// void HalProcessorIdle(ULONG last). A leaf function: it has no unwind data. `last` tells the other processor that
// this one will not wake again.
    .globl HalProcessorIdle
    .def HalProcessorIdle; .scl 2; .type 32; .endef
    .p2align 4
HalProcessorIdle:
    mov [rip + KiLastProcessorIdle], ecx
    sti
    hlt
    ret

    .globl __chkstk
    .def __chkstk; .scl 2; .type 32; .endef
__chkstk:
    ret

    .data
    .globl _fltused
_fltused: .long 0
