# The first process of a cell, once its program has begun: see tiny_init.py, which holds what this assembles to.
        lea     name(%rip), %rsi
        mov     $15, %edi               # PR_SET_NAME
        mov     $157, %eax              # prctl
        syscall
        mov     dumpable(%rip), %esi
        mov     $4, %edi                # PR_SET_DUMPABLE
        mov     $157, %eax
        syscall
        mov     program(%rip), %ebx
wait:   mov     $-1, %rdi               # any child
        lea     -16(%rsp), %rsi
        xor     %edx, %edx
        xor     %r10d, %r10d
        mov     $61, %eax               # wait4
        syscall
        cmp     %ebx, %eax
        jne     other
        mov     -16(%rsp), %edi         # its status
        mov     %edi, %eax
        and     $127, %eax              # the signal that ended it
        jz      exited
        lea     128(%rax), %edi
        jmp     end
exited: shr     $8, %edi
end:    mov     $231, %eax              # exit_group
        syscall
other:  cmp     $-10, %eax              # ECHILD: the program has been lost
        jne     wait
        mov     $125, %edi
        jmp     end
program:  .long 0
dumpable: .long 0
name:
