//! The rule of dispatch, with what compilers make of the usual ways to write it, and of those that must not pass.

use super::*;

const BOTH: &str = r#"
__attribute__((noinline, target("avx2"))) STATIC void scale_avx2(float *a, int n) {
    for (int i = 0; i < n; i++) a[i] = a[i] * 3 + 1;
}
__attribute__((noinline)) STATIC void scale_c(float *a, int n) {
    for (int i = 0; i < n; i++) a[i] = a[i] * 3 + 1;
}
"#;

/// Asks where it calls.
pub(super) const SUPPORTS: &str = r#"
#define STATIC static
__attribute__((noinline, target("avx2"))) STATIC void scale_avx2(float *a, int n) {
    for (int i = 0; i < n; i++) a[i] = a[i] * 3 + 1;
}
__attribute__((noinline)) STATIC void scale_c(float *a, int n) {
    for (int i = 0; i < n; i++) a[i] = a[i] * 3 + 1;
}
void scale(float *a, int n) {
    if (__builtin_cpu_supports("avx2")) scale_avx2(a, n); else scale_c(a, n);
    a[0] = 1;
}
"#;

fn text(visibility: &str, rest: &str) -> String {
    format!("#define STATIC {visibility}\n{BOTH}\n{rest}")
}

const IFUNC: &str = r#"
static void (*choose(void))(float *, int) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") ? scale_avx2 : scale_c;
}
void scale(float *a, int n) __attribute__((ifunc("choose")));
"#;

/// A table of implementations, filled by whoever looks first.
const POINTER: &str = r#"
static void (*chosen)(float *, int) = scale_c;
__attribute__((constructor)) static void choose(void) {
    if (__builtin_cpu_supports("avx2")) chosen = scale_avx2;
}
void scale(float *a, int n) { chosen(a, n); }
"#;

/// A variable of its own.
const VARIABLE: &str = r#"
#include <cpuid.h>
static unsigned features;
__attribute__((constructor, noinline)) static void look(void) {
    unsigned a, b, c, d;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) features = b;
}
void scale(float *a, int n) { if (features & bit_AVX2) scale_avx2(a, n); else scale_c(a, n); }
"#;

/// An answer that is handed on.
const ANSWER: &str = r#"
#include <cpuid.h>
static __attribute__((noinline)) int has_avx2(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_AVX2;
}
static __attribute__((noinline)) void by(int has, float *a, int n) { if (has) scale_avx2(a, n); else scale_c(a, n); }
void scale(float *a, int n) { by(has_avx2(), a, n); }
"#;

#[test]
fn what_is_only_reached_where_the_processor_has_it_passes() {
    for (what, rest) in [("ifunc", IFUNC), ("pointer", POINTER), ("variable", VARIABLE), ("answer", ANSWER)] {
        for (visibility, args) in [
            ("static", &["-shared", "-fPIC"][..]),
            ("static", &["-shared", "-fPIC", "-s"]),
            ("static", &["-shared", "-fPIC", "-O1"]),
            ("", &["-shared", "-fPIC", "-s"]),
            ("__attribute__((visibility(\"hidden\")))", &["-shared", "-fPIC", "-s"]),
            ("static", &["-c"]),
            ("static", &["-c", "-fPIC", "-ffunction-sections"]),
        ] {
            let report = audit(&wanted("x86-64-v2"), &made("a.c", args, &text(visibility, rest)));
            assert!(report.findings.is_empty(), "{what} {visibility} {args:?}: {}", report.findings[0]);
            assert!(report.dispatched >= 1, "{what} {visibility} {args:?}");
        }
    }
    let supports = library(&["-s"], SUPPORTS);
    assert!(passes("x86-64", &supports).dispatched >= 1);
}

/// The answer is in a register that the function puts back when it returns, and is looked at once more behind that, where
/// compilers lay what seldom runs (as in nettle).
const COLD: &str = "
.text
.type fast,@function
fast: vpaddd %ymm0,%ymm1,%ymm2
ret
.size fast,.-fast
.type slow,@function
slow: paddd %xmm0,%xmm1
ret
.size slow,.-slow
.globl choose
.type choose,@function
choose: push %rbx
mov $7,%eax
xor %ecx,%ecx
cpuid
and $0x20,%ebx
test %edi,%edi
jne 1f
lea slow(%rip),%rax
mov %rax,chosen(%rip)
pop %rbx
ret
1: test %ebx,%ebx
je 2f
lea fast(%rip),%rax
mov %rax,chosen(%rip)
pop %rbx
ret
2: lea slow(%rip),%rax
mov %rax,chosen(%rip)
pop %rbx
ret
.size choose,.-choose
.bss
chosen: .skip 8
";

#[test]
fn what_is_known_where_a_jump_begins_is_known_where_it_ends() {
    assert_eq!(passes("x86-64-v2", &made("a.s", &["-shared"], COLD)).dispatched, 1);
    // Another register, which holds no answer where the jump begins.
    let other = COLD.replace("1: test %ebx,%ebx", "1: test %esi,%esi");
    assert!(refused("x86-64-v2", &made("a.s", &["-shared"], &other)).contains("`fast`"));
    // What only looks like it: behind the return, nothing of what was known before it counts.
    let left = COLD.replace("jne 1f\n", "jne 1f\nmov %ebx,%esi\n").replace("1: test %ebx,%ebx", "1: test %esi,%esi");
    assert!(refused("x86-64-v2", &made("a.s", &["-shared"], &left)).contains("`fast`"));
}

#[test]
fn clones_that_the_compiler_makes_pass() {
    let text = format!("__attribute__((target_clones(\"avx2\", \"avx512f\", \"default\"))) {SCALE}");
    for args in [&[][..], &["-s"]] {
        assert!(passes("x86-64", &library(&[args, &["-O3"]].concat(), &text)).dispatched >= 2);
    }
}

#[test]
fn a_program_with_fixed_addresses_dispatches_as_well() {
    for rest in [IFUNC, POINTER, VARIABLE] {
        let rest = format!("{rest}\nint main(void) {{ float a[64] = {{0}}; scale(a, 64); return a[3] == 1 ? 0 : 1; }}");
        for args in [&["-no-pie", "-s"][..], &["-pie", "-fPIE", "-s"]] {
            passes("x86-64-v2", &made("a.c", args, &text("static", &rest)));
        }
    }
}

#[test]
fn dispatch_excuses_nothing_that_is_reached_otherwise() {
    // All of it compiled for what only a part may need: the usual accident.
    for rest in [IFUNC, POINTER, VARIABLE, ANSWER] {
        let said = refused("x86-64-v2", &library(&["-O3", "-mavx2", "-s"], &text("static", rest)));
        assert!(said.contains("avx"), "{said}");
    }
    let beside = "\nvoid beside(float *a, int n) { scale_avx2(a, n); a[1] = 2; }";
    let said = refused("x86-64-v2", &library(&[], &text("static", &format!("{IFUNC}{beside}"))));
    assert!(said.contains("`scale_avx2`"), "{said}");
    // What comes after the question, whatever the answer.
    let after = SUPPORTS.replace("a[0] = 1;", "scale_avx2(a, n); a[0] = 1;");
    assert!(refused("x86-64-v2", &library(&[], &after)).contains("`scale_avx2`"));
    // Another question.
    let other = SUPPORTS.replace("__builtin_cpu_supports(\"avx2\")", "n > 100");
    assert!(refused("x86-64-v2", &library(&[], &other)).contains("`scale_avx2`"));
    // A choice among what all needs more.
    let none = text("static", &IFUNC.replace("scale_c;", "scale_more;"));
    let none = none.replace("static void (*choose", "__attribute__((noinline, target(\"avx\"))) static void scale_more(float *a, int n) { for (int i = 0; i < n; i++) a[i] = a[i] * 5; }\nstatic void (*choose");
    assert!(refused("x86-64-v2", &library(&["-O3"], &none)).contains("avx"));
    // Nobody's.
    let alone = text("", "int f(void) { return __builtin_cpu_supports(\"avx2\"); }");
    assert!(refused("x86-64-v2", &library(&[], &alone)).contains("`scale_avx2`"));
}
