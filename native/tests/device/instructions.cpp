#include "instructions.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "machine.h"

namespace diffsort::device {
namespace {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
using f32 = float;
using f64 = double;
using Table = std::unordered_map<std::string, Execute>;

template <class T>
T get(Word word) {
  T value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

// Signed integers fill the register with their sign. There is one NaN in what is computed, as on
// devices in float32: the sign that this processor gives it depends on how the compiler wrote a sum.
template <class T>
Word word_of(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(value)) return sizeof(T) == 4 ? 0x7fffffff : 0x7fffffffffffffff;
  }
  if constexpr (std::is_integral_v<T>) {
    return static_cast<Word>(static_cast<std::conditional_t<std::is_signed_v<T>, s64, u64>>(value));
  } else {
    Word word = 0;
    std::memcpy(&word, &value, sizeof value);
    return word;
  }
}

template <class F>
void for_lanes(Mask mask, const F& f) {
  if (mask == ~Mask{0}) {
    for (int lane = 0; lane < kLanes; ++lane) f(lane);
  } else {
    for (; mask != 0; mask &= mask - 1) f(__builtin_ctz(mask));
  }
}

// The execution of a function of numbers, lane by lane.
template <auto kFunction>
struct Of;
template <class R, class A, R (*kFunction)(A)>
struct Of<kFunction> {
  static void run(Warp& warp, const Instruction& i, Mask mask) {
    const Word* const a = warp.in(i.from[0]);
    Word* const to = warp.out(i.to[0]);
    for_lanes(mask, [&](int k) { to[k] = word_of(kFunction(get<A>(a[k]))); });
  }
};
template <class R, class A, class B, R (*kFunction)(A, B)>
struct Of<kFunction> {
  static void run(Warp& warp, const Instruction& i, Mask mask) {
    const Word *const a = warp.in(i.from[0]), *const b = warp.in(i.from[1]);
    Word* const to = warp.out(i.to[0]);
    for_lanes(mask, [&](int k) { to[k] = word_of(kFunction(get<A>(a[k]), get<B>(b[k]))); });
  }
};
template <class R, class A, class B, class C, R (*kFunction)(A, B, C)>
struct Of<kFunction> {
  static void run(Warp& warp, const Instruction& i, Mask mask) {
    const Word *const a = warp.in(i.from[0]), *const b = warp.in(i.from[1]);
    const Word* const c = warp.in(i.from[2]);
    Word* const to = warp.out(i.to[0]);
    for_lanes(mask,
              [&](int k) { to[k] = word_of(kFunction(get<A>(a[k]), get<B>(b[k]), get<C>(c[k]))); });
  }
};
template <class R, class A, class B, class C, class D, R (*kFunction)(A, B, C, D)>
struct Of<kFunction> {
  static void run(Warp& warp, const Instruction& i, Mask mask) {
    const Word *const a = warp.in(i.from[0]), *const b = warp.in(i.from[1]);
    const Word *const c = warp.in(i.from[2]), *const d = warp.in(i.from[3]);
    Word* const to = warp.out(i.to[0]);
    for_lanes(mask, [&](int k) {
      to[k] = word_of(kFunction(get<A>(a[k]), get<B>(b[k]), get<C>(c[k]), get<D>(d[k])));
    });
  }
};

// Sums and products of integers go round.
template <class T>
using RoundOf = typename std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>,
                                            std::enable_if<true, T>>::type;

template <class T>
T add(T a, T b) {
  return static_cast<T>(RoundOf<T>(a) + RoundOf<T>(b));
}
template <class T>
T sub(T a, T b) {
  return static_cast<T>(RoundOf<T>(a) - RoundOf<T>(b));
}
template <class T>
T mul(T a, T b) {
  if constexpr (sizeof(T) == 2) return static_cast<T>(u32{RoundOf<T>(a)} * RoundOf<T>(b));
  return static_cast<T>(RoundOf<T>(a) * RoundOf<T>(b));
}
template <class T>
T mad(T a, T b, T c) {
  return add<T>(mul<T>(a, b), c);
}
template <class T>
T negative(T a) {
  if constexpr (std::is_floating_point_v<T>) return -a;
  return sub<T>(T{0}, a);
}
template <class T>
T absolute(T a) {
  return a < 0 ? negative(a) : a;
}
template <>
f32 absolute(f32 a) {
  return std::fabs(a);
}
template <>
f64 absolute(f64 a) {
  return std::fabs(a);
}
template <class T>
T quotient(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    if (b == 0) return static_cast<T>(~RoundOf<T>{0});
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return negative(a);
  }
  return static_cast<T>(a / b);
}
template <class T>
T rest(T a, T b) {
  if (b == 0) return a;
  if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
  return static_cast<T>(a % b);
}
template <class T>
T least(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) return std::fmin(a, b);
  return std::min(a, b);
}
template <class T>
T largest(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) return std::fmax(a, b);
  return std::max(a, b);
}
template <class T>
T fused(T a, T b, T c) {
  return std::fma(a, b, c);
}

template <class T>
using Twice = std::conditional_t<
    std::is_signed_v<T>,
    std::conditional_t<sizeof(T) == 2, s32, std::conditional_t<sizeof(T) == 4, s64, __int128>>,
    std::conditional_t<sizeof(T) == 2, u32,
                       std::conditional_t<sizeof(T) == 4, u64, unsigned __int128>>>;
template <class T>
T high_product(T a, T b) {
  return static_cast<T>((Twice<T>{a} * Twice<T>{b}) >> (8 * sizeof(T)));
}
template <class T>
Twice<T> wide_product(T a, T b) {
  return Twice<T>{a} * Twice<T>{b};
}

template <class T>
T both(T a, T b) {
  return a & b;
}
template <class T>
T either(T a, T b) {
  return a | b;
}
template <class T>
T differing(T a, T b) {
  return a ^ b;
}
template <class T>
T inverse(T a) {
  return static_cast<T>(~a);
}
Word not_predicate(Word a) {
  return ~a & 1;
}

// By at least the width of the type: what stays is nothing, or the sign.
template <class T>
T shifted_left(T a, u32 by) {
  return by < 8 * sizeof(T) ? static_cast<T>(a << by) : T{0};
}
template <class T>
T shifted_right(T a, u32 by) {
  const u32 most = 8 * sizeof(T) - 1;
  if (std::is_signed_v<T>) return static_cast<T>(a >> std::min(by, most));
  return by <= most ? static_cast<T>(a >> by) : T{0};
}
u32 funnel_left(u32 low, u32 high, u32 by) {
  by &= 31;
  return by == 0 ? high : (high << by) | (low >> (32 - by));
}
template <class T>
T inserted(T a, T into, u32 at, u32 length) {
  at &= 255;
  length &= 255;
  if (length == 0 || at >= 8 * sizeof(T)) return into;
  const T ones = length >= 8 * sizeof(T) ? ~T{0} : static_cast<T>((T{1} << length) - 1);
  return static_cast<T>((into & ~(ones << at)) | ((a & ones) << at));
}
template <class T>
T extracted(T a, u32 at, u32 length) {
  at &= 255;
  length &= 255;
  const u32 width = 8 * sizeof(T);
  if (length == 0) return 0;
  if (std::is_signed_v<T>) {
    if (at >= width) return static_cast<T>(a >> (width - 1));
    if (at + length >= width) return static_cast<T>(a >> at);
    const u32 above = width - at - length;
    return static_cast<T>(static_cast<T>(RoundOf<T>(a) << above) >> (above + at));
  }
  if (at >= width) return 0;
  a = static_cast<T>(a >> at);
  return length >= width ? a : static_cast<T>(a & ((T{1} << length) - 1));
}
u32 highest_bit_shift(u32 a) {
  return a == 0 ? ~u32{0} : static_cast<u32>(__builtin_clz(a));
}
u32 highest_bit(u32 a) {
  return a == 0 ? ~u32{0} : 31 - static_cast<u32>(__builtin_clz(a));
}
u32 bit_mask(u32 at, u32 length) {
  if (at >= 32 || length == 0) return 0;
  const u64 ones = length >= 32 ? ~u32{0} : (u64{1} << length) - 1;
  return static_cast<u32>(ones << at);
}
u32 reversed(u32 a) {
  u32 b = 0;
  for (int k = 0; k < 32; ++k) b |= (a >> k & 1) << (31 - k);
  return b;
}
u32 leading_zeros(u32 a) {
  return a == 0 ? 32 : static_cast<u32>(__builtin_clz(a));
}
u32 leading_zeros_64(u64 a) {
  return a == 0 ? 64 : static_cast<u32>(__builtin_clzll(a));
}
u32 ones(u32 a) {
  return static_cast<u32>(__builtin_popcount(a));
}
u32 ones_64(u64 a) {
  return static_cast<u32>(__builtin_popcountll(a));
}
u32 permuted(u32 a, u32 b, u32 choice) {
  const u64 bytes = u64{b} << 32 | a;
  u32 result = 0;
  for (int k = 0; k < 4; ++k) {
    const u32 nibble = choice >> (4 * k) & 15;
    u32 byte = static_cast<u32>(bytes >> (8 * (nibble & 7))) & 255;
    if (nibble & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << (8 * k);
  }
  return result;
}

// 20 bits of a quotient, from the upper half of the number.
f64 coarse_inverse(f64 a) {
  constexpr Word kUpper = ~Word{0} << 32;
  const f64 upper = get<f64>(word_of(a) & kUpper);
  if (std::fabs(upper) < std::numeric_limits<f64>::min()) {
    return std::copysign(std::numeric_limits<f64>::infinity(), a);
  }
  const f64 inverse = get<f64>(word_of(1.0 / upper) & kUpper);
  return std::fabs(inverse) < std::numeric_limits<f64>::min() ? std::copysign(0.0, a) : inverse;
}
template <class T>
T exact_inverse(T a) {
  return T{1} / a;
}
template <class T>
T root(T a) {
  return std::sqrt(a);
}

template <class To, class From>
To converted(From a) {
  if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
    if (std::isnan(a)) return sizeof(To) == 8 ? static_cast<To>(u64{1} << 63) : To{0};
    const From least = static_cast<From>(std::numeric_limits<To>::min());
    if (a <= least) return std::numeric_limits<To>::min();
    if (a >= std::ldexp(From{1}, std::numeric_limits<To>::digits))
      return std::numeric_limits<To>::max();
  }
  return static_cast<To>(a);
}
template <class To, class From>
To to_nearest(From a) {
  return converted<To, From>(std::nearbyint(a));
}

template <class T>
Word equal(T a, T b) {
  return a == b;
}
template <class T>
Word unequal(T a, T b) {
  return a < b || a > b || (std::is_integral_v<T> && a != b);
}
template <class T>
Word less(T a, T b) {
  return a < b;
}
template <class T>
Word at_most(T a, T b) {
  return a <= b;
}
template <class T>
Word more(T a, T b) {
  return a > b;
}
template <class T>
Word at_least(T a, T b) {
  return a >= b;
}
// True of NaN as well.
template <Word (*kOpposite)(f32, f32)>
Word unless32(f32 a, f32 b) {
  return !kOpposite(a, b);
}
template <Word (*kOpposite)(f64, f64)>
Word unless64(f64 a, f64 b) {
  return !kOpposite(a, b);
}

Word same(Word a) {
  return a;
}
Word chosen(Word a, Word b, Word predicate) {
  return predicate & 1 ? a : b;
}

template <class T>
void add_comparisons(Table& table, const std::string& type) {
  table["setp.eq." + type] = Of<&equal<T>>::run;
  table["setp.ne." + type] = Of<&unequal<T>>::run;
  table["setp.lt." + type] = Of<&less<T>>::run;
  table["setp.le." + type] = Of<&at_most<T>>::run;
  table["setp.gt." + type] = Of<&more<T>>::run;
  table["setp.ge." + type] = Of<&at_least<T>>::run;
}

template <class T>
void add_numbers(Table& table, const std::string& type) {
  const std::string rounding = std::is_floating_point_v<T> ? "rn." : "";
  table["add." + rounding + type] = Of<&add<T>>::run;
  table["sub." + rounding + type] = Of<&sub<T>>::run;
  table["neg." + type] = Of<&negative<T>>::run;
  table["abs." + type] = Of<&absolute<T>>::run;
  table["min." + type] = Of<&least<T>>::run;
  table["max." + type] = Of<&largest<T>>::run;
  table["div." + rounding + type] = Of<&quotient<T>>::run;
  add_comparisons<T>(table, type);
}

template <class T>
void add_integers(Table& table, const std::string& type) {
  add_numbers<T>(table, type);
  table["mul.lo." + type] = Of<&mul<T>>::run;
  table["mul.hi." + type] = Of<&high_product<T>>::run;
  if constexpr (sizeof(T) < 8) table["mul.wide." + type] = Of<&wide_product<T>>::run;
  table["mad.lo." + type] = Of<&mad<T>>::run;
  table["rem." + type] = Of<&rest<T>>::run;
  table["shr." + type] = Of<&shifted_right<T>>::run;
  if constexpr (sizeof(T) > 2) table["bfe." + type] = Of<&extracted<T>>::run;
}

template <class T>
void add_floats(Table& table, const std::string& type) {
  add_numbers<T>(table, type);
  table["mul.rn." + type] = Of<&mul<T>>::run;
  table["fma.rn." + type] = Of<&fused<T>>::run;
  table["rcp.rn." + type] = Of<&exact_inverse<T>>::run;
  table["sqrt.rn." + type] = Of<&root<T>>::run;
}

template <class T>
void add_bits(Table& table, const std::string& type) {
  table["and." + type] = Of<&both<T>>::run;
  table["or." + type] = Of<&either<T>>::run;
  table["xor." + type] = Of<&differing<T>>::run;
  table["not." + type] = Of<&inverse<T>>::run;
  table["shl." + type] = Of<&shifted_left<T>>::run;
  table["shr." + type] = Of<&shifted_right<T>>::run;
  if constexpr (sizeof(T) > 2) table["bfi." + type] = Of<&inserted<T>>::run;
  add_comparisons<T>(table, type);
}

template <class To, class From>
void add_conversion(Table& table, const std::string& to, const std::string& from) {
  const std::string types = to + "." + from;
  if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
    table["cvt.rzi." + types] = Of<&converted<To, From>>::run;
    table["cvt.rni." + types] = Of<&to_nearest<To, From>>::run;
  } else {
    table["cvt." + types] = table["cvt.rn." + types] = Of<&converted<To, From>>::run;
  }
}

template <class From>
void add_conversions(Table& table, const std::string& from) {
  add_conversion<u8, From>(table, "u8", from);
  add_conversion<s8, From>(table, "s8", from);
  add_conversion<u16, From>(table, "u16", from);
  add_conversion<s16, From>(table, "s16", from);
  add_conversion<u32, From>(table, "u32", from);
  add_conversion<s32, From>(table, "s32", from);
  add_conversion<u64, From>(table, "u64", from);
  add_conversion<s64, From>(table, "s64", from);
  add_conversion<f32, From>(table, "f32", from);
  add_conversion<f64, From>(table, "f64", from);
}

template <Word kWindow>
Word into_window(Word address) {
  return address | kWindow;
}
Word out_of_window(Word address) {
  return address & ~kWindowMask;
}

template <Word kWindow>
void add_window(Table& table, const std::string& space) {
  table["cvta.to." + space + ".u64"] = Of<&out_of_window>::run;
  table["cvta." + space + ".u64"] = Of<&into_window<kWindow>>::run;
}

Table arithmetic() {
  Table table;
  add_integers<u16>(table, "u16");
  add_integers<s16>(table, "s16");
  add_integers<u32>(table, "u32");
  add_integers<s32>(table, "s32");
  add_integers<u64>(table, "u64");
  add_integers<s64>(table, "s64");
  add_floats<f32>(table, "f32");
  add_floats<f64>(table, "f64");
  add_bits<u16>(table, "b16");
  add_bits<u32>(table, "b32");
  add_bits<u64>(table, "b64");
  table["and.pred"] = Of<&both<Word>>::run;
  table["or.pred"] = Of<&either<Word>>::run;
  table["xor.pred"] = Of<&differing<Word>>::run;
  table["not.pred"] = Of<&not_predicate>::run;
  table["setp.equ.f32"] = Of<&unless32<&unequal<f32>>>::run;
  table["setp.neu.f32"] = Of<&unless32<&equal<f32>>>::run;
  table["setp.ltu.f32"] = Of<&unless32<&at_least<f32>>>::run;
  table["setp.leu.f32"] = Of<&unless32<&more<f32>>>::run;
  table["setp.gtu.f32"] = Of<&unless32<&at_most<f32>>>::run;
  table["setp.geu.f32"] = Of<&unless32<&less<f32>>>::run;
  table["setp.equ.f64"] = Of<&unless64<&unequal<f64>>>::run;
  table["setp.neu.f64"] = Of<&unless64<&equal<f64>>>::run;
  table["setp.ltu.f64"] = Of<&unless64<&at_least<f64>>>::run;
  table["setp.leu.f64"] = Of<&unless64<&more<f64>>>::run;
  table["setp.gtu.f64"] = Of<&unless64<&at_most<f64>>>::run;
  table["setp.geu.f64"] = Of<&unless64<&less<f64>>>::run;
  for (const char* type :
       {"pred", "b16", "u16", "s16", "b32", "u32", "s32", "f32", "b64", "u64", "s64", "f64"}) {
    table[std::string("mov.") + type] = Of<&same>::run;
    table[std::string("selp.") + type] = Of<&chosen>::run;
  }
  table["rcp.approx.ftz.f64"] = Of<&coarse_inverse>::run;
  table["shf.l.wrap.b32"] = Of<&funnel_left>::run;
  table["bfind.shiftamt.u32"] = Of<&highest_bit_shift>::run;
  table["bfind.u32"] = Of<&highest_bit>::run;
  table["bmsk.clamp.b32"] = Of<&bit_mask>::run;
  table["brev.b32"] = Of<&reversed>::run;
  table["clz.b32"] = Of<&leading_zeros>::run;
  table["clz.b64"] = Of<&leading_zeros_64>::run;
  table["popc.b32"] = Of<&ones>::run;
  table["popc.b64"] = Of<&ones_64>::run;
  table["prmt.b32"] = Of<&permuted>::run;
  add_conversions<u8>(table, "u8");
  add_conversions<s8>(table, "s8");
  add_conversions<u16>(table, "u16");
  add_conversions<s16>(table, "s16");
  add_conversions<u32>(table, "u32");
  add_conversions<s32>(table, "s32");
  add_conversions<u64>(table, "u64");
  add_conversions<s64>(table, "s64");
  add_conversions<f32>(table, "f32");
  add_conversions<f64>(table, "f64");
  add_window<0>(table, "global");
  add_window<kSharedWindow>(table, "shared");
  add_window<kLocalWindow>(table, "local");
  add_window<kParameterWindow>(table, "param");
  return table;
}

template <class T>
struct Load {
  static void run(Warp& warp, const Instruction& i, Mask mask) {
    const Word* const address = warp.in(i.from[0]);
    const std::size_t bytes = i.count * sizeof(T);
    for_lanes(mask, [&](int lane) {
      const Word from = address[lane] + static_cast<Word>(i.offset);
      const unsigned char* memory = warp.at(i, from, bytes, lane);
      warp.note(i, from, bytes, lane, i.is_volatile ? Access::volatile_read : Access::read, false);
      for (int k = 0; k < i.count; ++k) {
        T value;
        std::memcpy(&value, memory + static_cast<std::size_t>(k) * sizeof(T), sizeof(T));
        warp.out(i.to[static_cast<std::size_t>(k)])[lane] = word_of(value);
      }
    });
  }
};

template <class T>
struct Store {
  static void run(Warp& warp, const Instruction& i, Mask mask) {
    const Word* const address = warp.in(i.from[0]);
    const std::size_t bytes = i.count * sizeof(T);
    for_lanes(mask, [&](int lane) {
      const Word to = address[lane] + static_cast<Word>(i.offset);
      T values[4];
      for (int k = 0; k < i.count; ++k) {
        values[k] = get<T>(warp.in(i.from[static_cast<std::size_t>(k + 1)])[lane]);
      }
      unsigned char* memory = warp.at(i, to, bytes, lane);
      warp.note(i, to, bytes, lane, i.is_volatile ? Access::atomic : Access::write,
                std::memcmp(memory, values, bytes) != 0);
      std::memcpy(memory, values, bytes);
    });
  }
};

template <auto kFunction>
struct Atomic;
template <class T, T (*kFunction)(T, T)>
struct Atomic<kFunction> {
  static void run(Warp& warp, const Instruction& i, Mask mask) {
    const Word *const address = warp.in(i.from[0]), *const operand = warp.in(i.from[1]);
    for_lanes(mask, [&](int lane) {
      const Word to = address[lane] + static_cast<Word>(i.offset);
      unsigned char* memory = warp.at(i, to, sizeof(T), lane);
      warp.note(i, to, sizeof(T), lane, Access::atomic, true);
      T old;
      std::memcpy(&old, memory, sizeof(T));
      const T now = kFunction(old, get<T>(operand[lane]));
      std::memcpy(memory, &now, sizeof(T));
      if (i.to[0] != kNoOperand) warp.out(i.to[0])[lane] = word_of(old);
    });
  }
};

enum class Mode { up, down, xor_, index };

template <Mode kMode>
struct Shuffle {
  static void run(Warp& warp, const Instruction& i, Mask mask) {
    const Word* const value = warp.in(i.from[0]);
    std::array<Word, kLanes> all;
    std::copy(value, value + kLanes, all.begin());
    const Word *const by = warp.in(i.from[1]), *const limits = warp.in(i.from[2]);
    std::array<int, kLanes> from;
    Mask in_range = 0;
    for_lanes(mask, [&](int lane) {
      const int step = static_cast<int>(by[lane] & 31), clamp = static_cast<int>(limits[lane] & 31);
      const int segment = static_cast<int>(limits[lane] >> 8 & 31);
      const int least = lane & segment, most = least | (clamp & ~segment);
      const int other = kMode == Mode::up     ? lane - step
                        : kMode == Mode::down ? lane + step
                        : kMode == Mode::xor_ ? lane ^ step
                                              : least | (step & ~segment);
      const bool is_in = kMode == Mode::up ? other >= most : other <= most;
      from[static_cast<std::size_t>(lane)] = is_in ? other : lane;
      in_range |= Mask{is_in} << lane;
    });
    for_lanes(mask, [&](int lane) {
      const int other = from[static_cast<std::size_t>(lane)];
      if (!(mask >> other & 1)) warp.fail("shuffles from a lane that takes no part", lane);
      warp.out(i.to[0])[lane] = all[static_cast<std::size_t>(other)];
      if (i.to[1] != kNoOperand) warp.out(i.to[1])[lane] = in_range >> lane & 1;
    });
  }
};

void vote(Warp& warp, const Instruction& i, Mask mask) {
  const Word* const predicate = warp.in(i.from[0]);
  Mask all = 0;
  for_lanes(mask, [&](int lane) { all |= static_cast<Mask>(predicate[lane] & 1) << lane; });
  for_lanes(mask, [&](int lane) { warp.out(i.to[0])[lane] = all; });
}

template <u32 (*kFunction)(u32, u32)>
void reduce(Warp& warp, const Instruction& i, Mask mask) {
  const Word* const values = warp.in(i.from[0]);
  u32 all = 0;
  for_lanes(mask, [&](int lane) { all = kFunction(all, get<u32>(values[lane])); });
  for_lanes(mask, [&](int lane) { warp.out(i.to[0])[lane] = all; });
}

void unpack(Warp& warp, const Instruction& i, Mask mask) {
  const Word* const both = warp.in(i.from[0]);
  for_lanes(mask, [&](int lane) {
    const Word value = both[lane];
    warp.out(i.to[0])[lane] = value & 0xffffffff;
    warp.out(i.to[1])[lane] = value >> 32;
  });
}

void pack(Warp& warp, const Instruction& i, Mask mask) {
  const Word *const low = warp.in(i.from[0]), *const high = warp.in(i.from[1]);
  Word* const to = warp.out(i.to[0]);
  for_lanes(mask, [&](int lane) { to[lane] = (low[lane] & 0xffffffff) | high[lane] << 32; });
}

Execute find(const Table& table, const std::string& name) {
  const auto found = table.find(name);
  return found == table.end() ? nullptr : found->second;
}

template <template <class> class Moves>
Table moves() {
  return {{"u8", Moves<u8>::run},   {"s8", Moves<s8>::run},   {"b8", Moves<u8>::run},
          {"u16", Moves<u16>::run}, {"s16", Moves<s16>::run}, {"b16", Moves<u16>::run},
          {"u32", Moves<u32>::run}, {"s32", Moves<s32>::run}, {"b32", Moves<u32>::run},
          {"u64", Moves<u64>::run}, {"s64", Moves<s64>::run}, {"b64", Moves<u64>::run},
          {"f32", Moves<u32>::run}, {"f64", Moves<u64>::run}};
}

}  // namespace

Execute find_arithmetic(const std::string& name) {
  static const Table table = arithmetic();
  return find(table, name);
}

Execute find_load(const std::string& type) {
  static const Table table = moves<Load>();
  return find(table, type);
}

Execute find_store(const std::string& type) {
  static const Table table = moves<Store>();
  return find(table, type);
}

Execute find_atomic(const std::string& operation, const std::string& type) {
  static const Table table{
      {"add.u32", Atomic<&add<u32>>::run},     {"add.s32", Atomic<&add<u32>>::run},
      {"add.u64", Atomic<&add<u64>>::run},     {"and.b32", Atomic<&both<u32>>::run},
      {"or.b32", Atomic<&either<u32>>::run},   {"max.u32", Atomic<&largest<u32>>::run},
      {"max.s32", Atomic<&largest<s32>>::run}, {"min.u32", Atomic<&least<u32>>::run}};
  return find(table, operation + "." + type);
}

Execute unpack_words() {
  return unpack;
}
Execute pack_words() {
  return pack;
}

Execute find_shuffle(const std::string& mode) {
  static const Table table{{"up", Shuffle<Mode::up>::run},
                           {"down", Shuffle<Mode::down>::run},
                           {"bfly", Shuffle<Mode::xor_>::run},
                           {"idx", Shuffle<Mode::index>::run}};
  return find(table, mode);
}

Execute find_reduction(const std::string& name) {
  static const Table table{{"add.u32", reduce<&add<u32>>},
                           {"max.u32", reduce<&largest<u32>>},
                           {"or.b32", reduce<&either<u32>>}};
  return find(table, name);
}

Execute ballot() {
  return vote;
}

}  // namespace diffsort::device
