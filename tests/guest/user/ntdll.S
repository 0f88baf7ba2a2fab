// System call stubs, with the numbers of build 19041 as public tables list them.
    .intel_syntax noprefix
    .text
    .macro SERVICE name, number
    .globl \name
    .def \name; .scl 2; .type 32; .endef
    .p2align 4
\name:
    mov r10, rcx
    mov eax, \number
    syscall
    ret
    .endm

    SERVICE NtWaitForSingleObject, 0x04
    SERVICE NtRemoveIoCompletion, 0x09
    SERVICE NtSetInformationFile, 0x27
    SERVICE NtDelayExecution, 0x34
    SERVICE NtCreateFile, 0x55

    .section .drectve, "yni"
    .ascii " /export:NtWaitForSingleObject /export:NtRemoveIoCompletion /export:NtSetInformationFile"
    .ascii " /export:NtDelayExecution /export:NtCreateFile"
