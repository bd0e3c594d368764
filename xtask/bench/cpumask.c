// Makes an x86-64 process believe that its CPU has AVX2 and nothing newer: `LD_PRELOAD=cpumask.so PROGRAM`.
//
// CPUID faulting turns every CPUID instruction into SIGSEGV. The handler executes the instruction with faulting off and clears the bits of
// AVX-512, AVX-VNNI and AMX from its answer. So each engine picks the kernels that it would pick on such a CPU. Threads and
// children inherit faulting; each child program sets it up again through LD_PRELOAD.
//
// A process that cannot be made to fault ends with exit code 3 before its main function.

#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef ARCH_SET_CPUID
#define ARCH_SET_CPUID 0x1012
#endif

#define BIT(n) (UINT32_C(1) << (n))

// Leaf 7, subleaf 0. AVX-512: F, DQ, IFMA, PF, ER, CD, BW, VL.
static const uint32_t HIDDEN_7_0_EBX = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);
// VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
static const uint32_t HIDDEN_7_0_ECX = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
// 4VNNIW, 4FMAPS, VP2INTERSECT, AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8.
static const uint32_t HIDDEN_7_0_EDX = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25);
// Leaf 7, subleaf 1. AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA.
static const uint32_t HIDDEN_7_1_EAX = BIT(4) | BIT(5) | BIT(21) | BIT(23);
// AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX, AVX-VNNI-INT16, AVX10.
static const uint32_t HIDDEN_7_1_EDX = BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19);

static long set_cpuid(int allowed) {
    return syscall(SYS_arch_prctl, ARCH_SET_CPUID, allowed);
}

static void on_fault(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)registers[REG_RIP];
    if (code[0] != 0x0f || code[1] != 0xa2) {
        // A real fault: it comes again, and ends the process as it would have.
        signal(SIGSEGV, SIG_DFL);
        return;
    }
    const uint32_t leaf = (uint32_t)registers[REG_RAX], subleaf = (uint32_t)registers[REG_RCX];
    uint32_t a, b, c, d;
    set_cpuid(1);
    __cpuid_count(leaf, subleaf, a, b, c, d);
    set_cpuid(0);
    if (leaf == 7 && subleaf == 0) {
        b &= ~HIDDEN_7_0_EBX;
        c &= ~HIDDEN_7_0_ECX;
        d &= ~HIDDEN_7_0_EDX;
    } else if (leaf == 7 && subleaf == 1) {
        a &= ~HIDDEN_7_1_EAX;
        d &= ~HIDDEN_7_1_EDX;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
    struct sigaction action = {0};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, NULL);
    if (set_cpuid(0) != 0) {
        perror("cpumask: this kernel or CPU has no CPUID faulting");
        _exit(3);
    }
}
