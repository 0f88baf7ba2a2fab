// From multiboot's 32-bit protected mode to 64-bit mode and boot_main(), and the same way for the second processor
// from real mode.
    .intel_syntax noprefix

    .set MULTIBOOT_FLAGS, 0x00010003          // modules on page boundaries, memory sizes, addresses follow

    .section .head, "ax"
    .code32
    .globl _start
    .align 8
multiboot_header:
    .long 0x1BADB002, MULTIBOOT_FLAGS, -(0x1BADB002 + MULTIBOOT_FLAGS)
    .long multiboot_header, __load, __edata, __ebss, _start

_start:
    cli
    mov esp, offset boot_stack_top
    mov edi, ebx                              // multiboot information, the argument of boot_main

    // Identity map of the first GiB with 2 MiB pages.
    mov eax, offset identity_pdpt
    or eax, 3
    mov [identity_pml4], eax
    mov eax, offset identity_pd
    or eax, 3
    mov [identity_pdpt], eax
    xor ecx, ecx
1:  mov eax, ecx
    shl eax, 21
    or eax, 0x83
    mov [identity_pd + ecx * 8], eax
    inc ecx
    cmp ecx, 512
    jne 1b

    mov eax, offset identity_pml4
    call enter_long_mode
    lgdt [gdt_register]
    ljmp 0x10, offset start64

enter_long_mode:                              // eax: CR3
    mov cr3, eax
    mov eax, cr4
    or eax, 0x620                             // PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov ecx, 0xC0000080                       // EFER
    rdmsr
    or eax, 0x901                             // SCE, LME, NXE
    wrmsr
    mov eax, cr0
    and eax, 0xfffffffb                       // EM off
    or eax, 0x80010023                        // PG, WP, NE, MP, PE
    mov cr0, eax
    ret

    .code64
start64:
    mov ax, 0x18
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov edi, edi
    mov rsp, offset boot_stack_top
    call boot_main
    hlt

// Jumps into the kernel. Its page is mapped at the same address in the bootstrap tables and in the kernel's.
// rdi: CR3, rsi: stack, rdx: entry, rcx: argument of the entry.
    .globl kernel_stub, kernel_stub_end
kernel_stub:
    mov cr3, rdi
    mov rsp, rsi
    sub rsp, 0x28
    xor eax, eax
    mov [rsp], rax                            // return address 0: here stacks end
    jmp rdx
kernel_stub_end:

// The second processor starts here in real mode; the page is copied to physical 0x1000, where NT has its
// PROCESSOR_START_BLOCK as well.
    .set AP_PAGE, 0x1000
    .globl ap_start, ap_start_end, ap_mailbox_offset
    .code16
ap_start:
    cli
    jmp ap16
    .align 8
ap_mailbox:
    .quad 0, 0, 0                             // set by the kernel: entry, stack, argument
    .quad 0, 0, 0                             // set by boot_main: kernel CR3, kernel_stub, bootstrap CR3
ap_gdt_register:
    .word 0x1f
    .long gdt
    .att_syntax
ap16:
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl AP_PAGE + ap_gdt_register - ap_start
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x08, $(AP_PAGE + ap32 - ap_start)
    .code32
ap32:
    movw $0x18, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw %ax, %es
    movl $(AP_PAGE + 0xff0), %esp
    movl AP_PAGE + ap_mailbox - ap_start + 40, %eax
    movl $enter_long_mode, %edx
    calll *%edx
    ljmpl $0x10, $(AP_PAGE + ap64 - ap_start)
    .code64
ap64:
    movq $(AP_PAGE + ap_mailbox - ap_start), %rbx
1:  pause
    movq (%rbx), %rdx
    testq %rdx, %rdx
    jz 1b
    movq 8(%rbx), %rsi
    movq 16(%rbx), %rcx
    movq 24(%rbx), %rdi
    movq 32(%rbx), %rax
    jmpq *%rax
ap_start_end:

    .data
ap_mailbox_offset: .quad ap_mailbox - ap_start
    .align 16
gdt: .quad 0, 0x00cf9a000000ffff, 0x00af9a000000ffff, 0x00cf92000000ffff
gdt_register: .word 0x1f
    .long gdt

    .bss
    .align 4096
    .globl identity_pdpt
identity_pml4: .skip 4096
identity_pdpt: .skip 4096
identity_pd:   .skip 4096
boot_stack:    .skip 16384
boot_stack_top:
