// The starts of a row's blocks: a bitmap, and above it bitmaps of the words that are not empty.
//
// Level 0 has a bit for every element, each level above a bit for every word of the one below, up
// to a level of one word. A search visits at most two words per level, mostly one in all.
// The upper levels start full; whoever leaves a word empty clears its bit.
// Scratch: about n / 31 words of 32 bits; see words().
//
// Several ranges of elements may be worked on at once, each of 2^k elements from a multiple of 2^k
// on and each beginning with a start. They share words, but no bits: those are cleared atomically,
// and what one range clears no search in another one depends on.
#pragma once

#include <cstdint>

#include "diffsort/arithmetic.h"
#include "diffsort/atomics.h"
#include "diffsort/host_device.h"

namespace diffsort {

class StartBits {
 public:
  DIFFSORT_HD StartBits(std::uint32_t* words, std::int64_t n)
      : words_(words), n_(static_cast<std::int32_t>(n)) {}

  // How many words of memory all levels take together, and those above level 0.
  DIFFSORT_HD static std::int64_t words(std::int64_t n) {
    std::int64_t count = 0;
    do {
      n = words_of_bits(n);
      count += n;
    } while (n > 1);
    return count;
  }
  DIFFSORT_HD static std::int64_t upper_words(std::int64_t n) {
    return words(n) - words_of_bits(n);
  }

  // Fills the k-th word above level 0. To be called for every k < upper_words(n), and before any
  // start is cleared. Bits beyond the end of a level are set too, but no search goes there.
  DIFFSORT_HD void fill(std::int64_t k) const { words_[size(0) + k] = ~std::uint32_t{0}; }

  // Sets the k-th word of level 0. To be called for every k, or by one caller for each.
  DIFFSORT_HD void set_word(std::int32_t k, std::uint32_t starts) const {
    words_[k] = starts;
    if (starts == 0) clear_bits(words_ + size(0) + k / 32, std::uint32_t{1} << (k % 32));
  }

  // Clears the bit that stands for the k-th word of an upper level, if that word is empty; not for
  // the last level.
  DIFFSORT_HD void clear_empty_word(int level, std::int32_t k) const {
    const std::uint32_t* words = words_;
    for (int below = 0; below < level; ++below) words += size(below);
    if (load_bits(words + k) != 0) return;
    clear_bits(const_cast<std::uint32_t*>(words) + size(level) + k / 32,
               std::uint32_t{1} << (k % 32));
  }

  // The last start at or before i; there is one, mostly in the same word.
  DIFFSORT_HD std::int32_t prev(std::int32_t i) const {
    const std::uint32_t found = load_bits(words_ + i / 32) & ~bits_behind(i % 32);
    return found != 0 ? i / 32 * 32 + highest_bit(found) : prev_word(i);
  }

  // The first start at or after i and before `limit`; otherwise `limit`, which is at most n.
  DIFFSORT_HD std::int32_t next(std::int32_t i, std::int32_t limit) const {
    if (i >= limit) return limit;
    const std::uint32_t found = load_bits(words_ + i / 32) & ~bits_before(i % 32);
    if (found == 0) return next_word(i, limit);
    const std::int32_t start = i / 32 * 32 + lowest_bit(found);
    return start < limit ? start : limit;
  }

  // A lane's share, of 32, of clearing the starts between `first`, a start that stays, and `last`: a
  // start, or the end of the range.
  DIFFSORT_HD DIFFSORT_NOINLINE void clear_between(int lane, std::int32_t first,
                                                   std::int32_t last) const {
    std::uint32_t* words = words_;
    std::int32_t end = n_;  // of the level, in bits
    for (int level = 0; last - first > 1; ++level) {
      const std::int32_t first_word = first / 32, last_word = last / 32;
      if (lane == 0 && first_word == last_word) {
        clear_bits(words + first_word, bits_behind(first % 32) & bits_before(last % 32));
      } else if (lane == 0) {
        clear_bits(words + first_word, bits_behind(first % 32));
        if (last % 32 > 0) clear_bits(words + last_word, bits_before(last % 32));
      }
      for (std::int32_t k = first_word + 1 + lane; k < last_word; k += 32) words[k] = 0;
      first = first_word;
      last = last == end ? size(level) : last_word;
      end = size(level);
      words += end;
    }
  }

 private:
  // The last start in the words before that of i.
  DIFFSORT_HD DIFFSORT_NOINLINE std::int32_t prev_word(std::int32_t i) const {
    const std::uint32_t* words = words_;
    int level = 0;
    std::uint32_t found = 0;
    while (found == 0) {
      words += size(level++);
      i /= 32;
      found = load_bits(words + i / 32) & bits_before(i % 32);
    }
    for (;;) {
      i = i / 32 * 32 + highest_bit(found);
      if (level == 0) return i;
      words -= size(--level);
      found = load_bits(words + i);
      i *= 32;
    }
  }

  // The first start in the words behind that of i, before `limit`.
  DIFFSORT_HD DIFFSORT_NOINLINE std::int32_t next_word(std::int32_t i, std::int32_t limit) const {
    const std::uint32_t* words = words_;
    int level = 0;
    std::uint32_t found = 0;
    while (found == 0) {
      words += size(level++);
      i /= 32;
      if (i >= bit_at(level, limit - 1)) return limit;
      found = load_bits(words + i / 32) & bits_behind(i % 32);
    }
    for (;;) {
      i = i / 32 * 32 + lowest_bit(found);
      if (i > bit_at(level, limit - 1)) return limit;
      if (level == 0) return i;
      words -= size(--level);
      found = load_bits(words + i);
      i *= 32;
    }
  }

  // The bit of a level that stands for element i; levels may be beyond the last.
  DIFFSORT_HD static std::int32_t bit_at(int level, std::int32_t i) {
    return static_cast<std::int32_t>(std::int64_t{i} >> (5 * level));
  }

  // The words of a level.
  DIFFSORT_HD std::int32_t size(int level) const { return bit_at(level + 1, n_ - 1) + 1; }

  std::uint32_t* words_;
  std::int32_t n_;
};

}  // namespace diffsort
