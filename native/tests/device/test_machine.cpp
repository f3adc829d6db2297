// What the emulated device is there for: it finds what kernels must not do. And instructions that
// are easy to get wrong.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "machine.h"

using namespace diffsort::device;

namespace {

// A kernel of one parameter, the address of numbers, which is in %rd1; the thread is in %r1, and 4
// times the thread in %r2 and %rd2.
std::string kernel(const std::string& body) {
  return R"(
    .version 9.0
    .target sm_75
    .address_size 64
    .visible .entry k(.param .u64 k_param_0)
    {
    .reg .pred %p<9>;
    .reg .b32 %r<40>;
    .reg .b64 %rd<20>;
    .reg .f64 %fd<9>;
    .shared .align 8 .b8 words[512];
    ld.param.u64 %rd1, [k_param_0];
    mov.u32 %r1, %tid.x;
    shl.b32 %r2, %r1, 2;
    cvt.u64.u32 %rd2, %r2;
    add.s64 %rd3, %rd1, %rd2;
    mov.u32 %r3, words;
    add.s32 %r4, %r3, %r2;
    )" + body +
         "\nret;\n}\n";
}

std::vector<std::uint32_t> run(const std::string& body, std::uint32_t threads,
                               Settings settings = {false, true, 0}, Counts* counts = nullptr) {
  std::vector<std::uint32_t> numbers(threads);
  const Module module = read_module(kernel(body));
  Machine machine;
  machine.settings = settings;
  machine.memory.allow(numbers.data(), numbers.size() * sizeof(numbers[0]));
  Launch launch{&module, &module.functions[0], 1, threads, std::vector<unsigned char>(8), 0};
  const std::uint32_t* const address = numbers.data();
  std::memcpy(launch.parameters.data(), &address, sizeof address);
  const Counts found = machine.run(launch);
  if (counts != nullptr) *counts = found;
  return numbers;
}

void check_fails(const std::string& body, const std::string& why, std::uint32_t threads = 64) {
  for (const bool shuffled : {false, true}) {
    std::string what;
    try {
      run(body, threads, {shuffled, true, 5});
    } catch (const KernelError& error) {
      what = error.what();
    }
    CHECK_MESSAGE(what.find(why) != std::string::npos, body << ": " << what);
  }
}

// That the instructions leave `expected` in %r9, in every lane.
void check_result(const std::string& instructions, std::uint32_t expected) {
  CAPTURE(instructions);
  for (const std::uint32_t result : run(instructions + "\nst.global.u32 [%rd3], %r9;", 5)) {
    CHECK(result == expected);
  }
}

}  // namespace

TEST_CASE("machine: threads, branches and loops") {
  const auto numbers = run(R"(
    mov.u32 %r5, 0;
    mov.u32 %r6, 0;
    $again:
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra $done;
    add.s32 %r6, %r6, %r5;
    add.s32 %r5, %r5, 1;
    bra.uni $again;
    $done:
    st.global.u32 [%rd3], %r6;)",
                           70);
  for (std::uint32_t t = 0; t < 70; ++t) CHECK(numbers[t] == t * (t - 1) / 2);
}

// In each turn of the loop some lanes take a detour that lies behind the loop. The others wait for them
// where the ways meet, and no lane is alone in a turn.
TEST_CASE("machine: lanes that part go on together where their ways meet") {
  const std::string body = R"(
    mov.u32 %r5, 0;
    mov.u32 %r9, 0;
    and.b32 %r6, %r1, 7;
    $again:
    add.s32 %r5, %r5, 1;
    setp.eq.u32 %p1, %r5, %r6;
    @%p1 bra $detour;
    $next:
    setp.lt.u32 %p2, %r5, 10;
    @%p2 bra $again;
    st.global.u32 [%rd3], %r9;
    bra.uni $end;
    $detour:
    add.s32 %r9, %r9, %r5;
    bra.uni $next;
    $end:)";
  Counts in_order, shuffled;
  const auto numbers = run(body, 32, {false, true, 0}, &in_order);
  CHECK(run(body, 32, {true, true, 3}, &shuffled) == numbers);
  for (std::uint32_t t = 0; t < 32; ++t) CHECK(numbers[t] == t % 8);
  const std::uint64_t outside = 7 + 3 + 3, turns = 10 * 5, detour = 2;
  CHECK(in_order.instructions == outside + turns + 7 * detour);
  CHECK(in_order.lane_instructions == 32 * (outside + turns) + 28 * detour);
  CHECK(shuffled.lane_instructions == in_order.lane_instructions);
}

TEST_CASE("machine: addresses outside of what was allowed") {
  check_fails("st.global.u32 [%rd3+4], %r1;", "outside of global memory");
  check_fails("ld.u32 %r9, [%rd3+-4];", "outside of global memory");
  check_fails("st.shared.u32 [%r4+260], %r1;", "outside of shared memory");
  check_fails("ld.global.u32 %r9, [%rd3+2];", "no multiple of the access");
}

TEST_CASE("machine: threads that use the same memory without a barrier") {
  const std::string write = "st.shared.u32 [%r4], %r1;\n", sync = "bar.sync 0;\n";
  const std::string warp_sync = "bar.warp.sync -1;\n";
  const std::string other_lane = "xor.b32 %r5, %r4, 4; ld.shared.u32 %r9, [%r5];\n";
  const std::string other_warp = "xor.b32 %r5, %r4, 128; ld.shared.u32 %r9, [%r5];\n";
  const std::string why = "no barrier between";
  check_fails(write + other_lane, why);
  check_fails(write + other_warp, why);
  check_fails(write + warp_sync + other_warp, why);
  check_fails(write + sync + other_warp + write, why);
  check_fails("st.global.u32 [%rd1], %r1;", why);
  check_fails("atom.global.add.u32 %r9, [%rd1], 1; ld.global.u32 %r9, [%rd1];", why);
  check_fails("ld.volatile.shared.u32 %r9, [%r3]; st.shared.u32 [%r3], %r1;", why);
  check_fails("xor.b32 %r5, %r4, 4; ld.volatile.shared.u32 %r9, [%r5]; st.shared.u32 [%r4], %r1;",
              why);
  CHECK_NOTHROW(run(write + warp_sync + other_lane, 64));
  CHECK_NOTHROW(run(write + sync + other_warp + sync + write, 64));
  CHECK_NOTHROW(run("st.global.u32 [%rd1], 7;", 64));  // the same by all
  CHECK(run("atom.global.add.u32 %r9, [%rd1], 1;", 64)[0] == 64);
}

TEST_CASE("machine: lanes that wait in vain") {
  const std::string part = "setp.lt.u32 %p1, %r1, 40;\n";
  check_fails(part + "@%p1 bra $end; bar.sync 0;\n$end:", "others have ended");
  check_fails(part + "@%p1 bra $one; bar.sync 0; bra $end;\n$one: bar.sync 0;\n$end:",
              "at different places");
  const std::string warp = "setp.lt.u32 %p1, %r1, 32;\n";
  check_fails(warp + "@%p1 bra $end; bar.sync 0;\n$end:", "others have ended");
  check_fails(warp + "@%p1 bra $one; bar.sync 0; bra $end;\n$one: bar.sync 0;\n$end:",
              "at different places");
  check_fails(part + "@%p1 bra $end; shfl.sync.up.b32 %r9, %r1, 1, 0, -1;\n$end:", "never come");
  check_fails(part + "@%p1 bra $end; vote.sync.ballot.b32 %r9, %p1, -1;\n$end:", "never come");
}

TEST_CASE("machine: a barrier that asks all threads") {
  for (const std::uint32_t asked : {0u, 40u, 63u, 64u}) {  // of 64 threads; the last one is none
    const auto answers = run("setp.eq.u32 %p1, %r1, " + std::to_string(asked) +
                                 "; bar.red.or.pred %p2, 0, %p1; selp.u32 %r9, 1, 0, %p2;\n"
                                 "st.global.u32 [%rd3], %r9;",
                             64);
    for (std::uint32_t t = 0; t < 64; ++t) CHECK(answers[t] == (asked < 64 ? 1u : 0u));
  }
  const std::string write = "st.shared.u32 [%r4], %r1;\n";
  CHECK_NOTHROW(run(write + "bar.red.or.pred %p2, 0, %p1; xor.b32 %r5, %r4, 128;\n"
                            "ld.shared.u32 %r9, [%r5];",
                    64));
  CHECK_THROWS_WITH(read_module(kernel("bar.red.or.pred %p2, 1, %p1;")),
                    doctest::Contains("another barrier"));
}

TEST_CASE("machine: shuffles") {
  const auto value = [](const std::string& body) {
    return run(body + "\nst.global.u32 [%rd3], %r9;", 32);
  };
  const auto up = value("shfl.sync.up.b32 %r9|%p1, %r1, 3, 0, -1;");
  const auto down = value("shfl.sync.down.b32 %r9|%p1, %r1, 3, 31, -1;");
  const auto pairs = value("shfl.sync.bfly.b32 %r9|%p1, %r1, 1, 31, -1;");
  const auto one = value("shfl.sync.idx.b32 %r9|%p1, %r1, 7, 31, -1;");
  const auto eighths = value("shfl.sync.up.b32 %r9|%p1, %r1, 1, 6144, -1;");  // segments of 8
  for (std::uint32_t t = 0; t < 32; ++t) {
    CHECK(up[t] == (t < 3 ? t : t - 3));
    CHECK(down[t] == (t + 3 > 31 ? t : t + 3));
    CHECK(pairs[t] == (t ^ 1));
    CHECK(one[t] == 7);
    CHECK(eighths[t] == (t % 8 == 0 ? t : t - 1));
  }
}

TEST_CASE("machine: instructions") {
  check_result("mov.u32 %r5, -5; shr.s32 %r9, %r5, 40;", ~0u);
  check_result("mov.u32 %r5, -5; shr.u32 %r9, %r5, 40;", 0);
  check_result("mov.u32 %r5, 1; shl.b32 %r9, %r5, 32;", 0);
  check_result("mov.u32 %r5, 0x80000001; shf.l.wrap.b32 %r9, %r5, 3, 33;", 7);
  check_result("prmt.b32 %r9, 0x03020100, 0x07060504, 0x7531;", 0x07050301);
  check_result("prmt.b32 %r9, 0x03020180, 0x07060504, 0x0008;", 0x808080ff);
  check_result("bfi.b32 %r9, 0xff, 0, 4, 6;", 0x3f0);
  check_result("bmsk.clamp.b32 %r9, 30, 9;", 0xc0000000);
  check_result("bfind.shiftamt.u32 %r9, 0x00800000;", 8);
  check_result("mul.hi.s32 %r9, -2, 3;", ~0u);
  check_result("div.s32 %r9, -7, 2;", std::uint32_t(-3));
  check_result("brev.b32 %r9, 6;", 0x60000000);
  check_result(
      "mov.f64 %fd1, 0d7FF8000000000000; setp.ltu.f64 %p1, %fd1, %fd1; selp.u32 %r9, 1, 2, %p1;",
      1);
  check_result(
      "mov.f64 %fd1, 0d7FF8000000000000; setp.ne.f64 %p1, %fd1, %fd1; selp.u32 %r9, 1, 2, %p1;", 2);
  check_result("cvt.rzi.s32.f64 %r9, 0dC00C000000000000;", std::uint32_t(-3));          // -3.5
  check_result("cvt.rzi.s32.f64 %r9, 0d4230000000000000;", 0x7fffffff);                 // 2^36
  check_result("cvt.rni.s64.f64 %rd9, 0d4004000000000000; cvt.u32.u64 %r9, %rd9;", 2);  // 2.5
  check_result("mov.b64 {%r9, %r8}, 0x500000003;", 3);
  CHECK_THROWS_AS(read_module(kernel("vote.sync.any.pred %p1, %p2, -1;")), std::runtime_error);
  CHECK_THROWS_AS(read_module(kernel("redux.sync.max.s32 %r9, %r1, -1;")), std::runtime_error);
  CHECK_THROWS_WITH(read_module(kernel("ret; } .func f() { bra.uni $end; $end: } .func g() {")),
                    doctest::Contains("nothing at $end"));
}
