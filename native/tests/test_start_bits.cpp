#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "diffsort/parallel_row/partition/start_bits.h"

using namespace diffsort;

namespace {

// Start bits beside a set that they have to agree with.
class Checked {
 public:
  explicit Checked(std::int64_t n)
      : n_(static_cast<std::int32_t>(n)),
        memory_(static_cast<std::size_t>(StartBits::words(n)), 0xdeadbeef),
        bits_(memory_.data(), n) {
    for (std::int64_t k = 0; k < StartBits::upper_words(n); ++k) bits_.fill(k);
  }

  // Every element a start with probability `density`, beside the first of every `spacing`, which is
  // a multiple of 32 and at most 32768.
  void set(double density, std::int32_t spacing, std::mt19937_64& random) {
    std::bernoulli_distribution more(density);
    for (std::int32_t first = 0; first < n_; first += 32) {
      std::uint32_t starts = first % spacing == 0 ? 1 : 0;
      for (int bit = 0; bit < 32 && first + bit < n_; ++bit) {
        if (more(random)) starts |= std::uint32_t{1} << bit;
      }
      for (int bit = 0; bit < 32; ++bit) {
        if ((starts >> bit & 1) != 0) starts_.insert(first + bit);
      }
      bits_.set_word(first / 32, starts);
    }
    for (std::int32_t k = 0; n_ > 1024 && k < (n_ + 1023) / 1024; ++k) {
      bits_.clear_empty_word(1, k);
    }
  }

  // Within `width` = 2^k elements from a multiple of it on, joins what lies between two starts, or
  // one and the end.
  void join(std::int32_t first, std::int32_t width, std::mt19937_64& random) {
    const std::int32_t last = std::min(n_, first + width);
    std::vector<std::int32_t> ends(starts_.lower_bound(first), starts_.lower_bound(last));
    ends.push_back(last);
    std::uniform_int_distribution<std::size_t> any(0, ends.size() - 1);
    std::size_t i = any(random), j = any(random);
    if (i > j) std::swap(i, j);
    if (i == j) return;
    for (int lane = 0; lane < 32; ++lane) bits_.clear_between(lane, ends[i], ends[j]);
    starts_.erase(starts_.upper_bound(ends[i]), starts_.lower_bound(ends[j]));
  }

  bool agrees_at(std::int32_t i, std::int32_t limit) const {
    const auto next = starts_.lower_bound(i);
    const std::int32_t next_start = next == starts_.end() ? n_ : *next;
    return bits_.prev(i) == *std::prev(starts_.upper_bound(i)) &&
           bits_.next(i, limit) == (i < limit ? std::min(next_start, limit) : limit);
  }

 private:
  std::int32_t n_;
  std::vector<std::uint32_t> memory_;
  StartBits bits_;
  std::set<std::int32_t> starts_;
};

}  // namespace

TEST_CASE("start bits are a set of starts, level by level") {
  std::mt19937_64 random(1);
  std::vector<std::int32_t> lengths{1000, 1023, 1024, 1025, 2048, 32767, 32768, 32769, 70000};
  for (std::int32_t n = 1; n <= 100; ++n) lengths.push_back(n);
  for (const std::int32_t n : lengths) {
    for (const double density : {0.0, 0.001, 0.1, 1.0}) {
      for (const std::int32_t spacing : {32, 4096}) {
        CAPTURE(n);
        Checked bits(n);
        bits.set(density, spacing, random);
        std::uniform_int_distribution<std::int32_t> any(0, n - 1);
        const auto check = [&] {
          for (int repeat = 0; repeat < 200; ++repeat) {
            const std::int32_t i = n <= 100 ? repeat % n : any(random);
            REQUIRE(bits.agrees_at(i, n));
            REQUIRE(bits.agrees_at(i, any(random)));
          }
        };
        check();
        for (std::int32_t width = spacing; width < 2 * n; width *= 2) {
          for (std::int32_t first = 0; first < n; first += width) bits.join(first, width, random);
          check();
        }
      }
    }
  }
}

TEST_CASE("start bits of the longest rows" * doctest::skip()) {
  const std::int64_t n = (std::int64_t{1} << 31) - 3;
  std::vector<std::uint32_t> memory(static_cast<std::size_t>(StartBits::words(n)));
  const StartBits bits(memory.data(), n);
  const auto last = static_cast<std::int32_t>(n - 1);
  for (std::int64_t k = 0; k < StartBits::upper_words(n); ++k) bits.fill(k);
  for (std::int32_t k = 0; k <= last / 32; ++k) bits.set_word(k, 0x01010101);
  CHECK(bits.prev(last) == last / 8 * 8);
  CHECK(bits.next(last, last) == last);
  const std::int32_t half = 1 << 30;
  const auto clear_between = [&](std::int32_t first, std::int32_t end) {
    for (int lane = 0; lane < 32; ++lane) bits.clear_between(lane, first, end);
  };
  clear_between(8, half);
  clear_between(half, last + 1);
  CHECK(bits.prev(last) == half);
  CHECK(bits.prev(half - 1) == 8);
  CHECK(bits.next(9, last + 1) == half);
  CHECK(bits.next(half + 1, last + 1) == last + 1);
  clear_between(0, last + 1);
  CHECK(bits.prev(last) == 0);
  CHECK(bits.next(1, last + 1) == last + 1);
}
