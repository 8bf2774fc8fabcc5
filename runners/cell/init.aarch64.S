// The first process of a cell, once its program has begun: see tiny_init.py, which holds what this assembles to.
        adr     x1, name
        mov     x0, #15                 // PR_SET_NAME
        mov     x8, #167                // prctl
        svc     #0
        ldr     w1, dumpable
        mov     x0, #4                  // PR_SET_DUMPABLE
        svc     #0
        ldr     w19, program
        sub     sp, sp, #16
wait:   mov     x0, #-1                 // any child
        mov     x1, sp
        mov     x2, #0
        mov     x3, #0
        mov     x8, #260                // wait4
        svc     #0
        cmp     w0, w19
        b.ne    other
        ldr     w0, [sp]                // its status
        ands    w1, w0, #127            // the signal that ended it
        b.eq    exited
        add     w0, w1, #128
        b       end
exited: ubfx    w0, w0, #8, #8
end:    mov     x8, #94                 // exit_group
        svc     #0
other:  cmn     w0, #10                 // ECHILD: the program has been lost
        b.ne    wait
        mov     x0, #125
        b       end
program:  .word 0
dumpable: .word 0
name:
