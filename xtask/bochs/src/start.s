# From a multiboot loader's 32-bit mode to 64-bit mode with AVX-512 on: the first gigabyte is mapped as it is.
.section .multiboot, "a"
.align 4
.long 0x1BADB002, 0, -0x1BADB002

.section .boot, "ax"
.code32
.global start
start:
    cli
    mov esp, offset stack
    mov eax, offset directories
    or eax, 3
    mov dword ptr [top], eax
    mov eax, offset pages
    or eax, 3
    mov dword ptr [directories], eax
    xor ecx, ecx
1:  # Pages of 2 MiB: present, writable, large.
    mov eax, ecx
    shl eax, 21
    or eax, 0x83
    mov dword ptr [pages + ecx * 8], eax
    inc ecx
    cmp ecx, 512
    jne 1b
    mov eax, offset top
    mov cr3, eax
    # PAE, OSFXSR, OSXMMEXCPT, OSXSAVE.
    mov eax, cr4
    or eax, 0x40620
    mov cr4, eax
    # Long mode.
    mov ecx, 0xC0000080
    rdmsr
    or eax, 0x100
    wrmsr
    # Paging, protection, no emulation of the floating-point unit.
    mov eax, cr0
    and eax, 0xFFFFFFFB
    or eax, 0x80000003
    mov cr0, eax
    lgdt [table]
    .byte 0xEA
    .long long_mode
    .word 8
.code64
long_mode:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    # x87, SSE, AVX and the three parts of AVX-512.
    xor ecx, ecx
    xor edx, edx
    mov eax, 0xE7
    xsetbv
    # Thread-local storage lies below the base of fs, which points to itself.
    mov ecx, 0xC0000100
    mov eax, offset thread
    xor edx, edx
    wrmsr
    mov qword ptr [thread], rax
    mov rsp, offset stack
    call program
2:  hlt
    jmp 2b
.align 8
segments:
    .quad 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF
table:
    .word 23
    .long segments

.section .bss
.align 4096
top: .skip 4096
directories: .skip 4096
pages: .skip 4096
    .skip 65536
thread: .skip 4096
    .skip 4194304
stack: .skip 64
