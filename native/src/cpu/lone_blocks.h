// Which blocks of a row have one element only, and where the elements of the others are.
//
// Two bits for each block id say how many elements have it: none (00), one (01), or more (11). The table
// is a 64th of one of sums (block_sums_by_id.h), and fits into caches that are much nearer.
// Cost: one read of the ids, and one more for a list. Scratch: n / 4 bytes, on several threads for each
// of them, and for a list 4 per element of the row, of which those of what is listed are touched.
// Chosen: by long_rank_vjp.h, and by long_sort_vjp.h for sorted values of kl.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "buffer.h"
#include "diffsort/parallel.h"
#include "id_buckets.h"
#include "levels.h"

namespace diffsort::DIFFSORT_LEVEL {

class LoneBlocks {
 public:
  // Of plain ids (block_ids.h). `passed_over` is an id that is not looked at, or -1.
  void find(const std::int32_t* ids, std::int64_t n, std::int32_t passed_over,
            const Workers& workers) {
    const std::int64_t words = (n + kIds - 1) / kIds;
    const std::int64_t parts = parts_for(workers);
    words_ = memory_.get(static_cast<std::size_t>(parts * words));
    parallel_for(parts, workers, [&](std::int64_t p) {
      Word* const seen = words_ + p * words;
      std::memset(seen, 0, static_cast<std::size_t>(words) * sizeof(Word));
      for (std::int64_t i = n * p / parts, end = n * (p + 1) / parts; i < end; ++i) {
        if (ids[i] == passed_over) continue;
        const auto id = static_cast<std::uint32_t>(ids[i]);
        const Word word = seen[id / kIds];
        const Word once = Word{1} << (2 * id) % 64;
        seen[id / kIds] = word | once | (word & once) << 1;
      }
    });
    count_ = 0;
    for (std::int64_t k = 0; k < words; ++k) {
      Word all = words_[k];
      for (std::int64_t p = 1; p < parts; ++p) {
        const Word more = words_[p * words + k];
        all |= more | (all & more & kOnce) << 1;
      }
      words_[k] = all;
      count_ += __builtin_popcountll(all & ~(all >> 1) & kOnce);
    }
  }

  // How many blocks have one element.
  std::int64_t count() const { return count_; }
  // Whether several elements have the id; false of the one that was passed over.
  bool is_shared(std::int32_t id) const { return (bits_of(id) & 2) != 0; }
  bool is_lone(std::int32_t id) const { return bits_of(id) == 1; }

  // Where elements are whose ids are shared. Each thread lists its part, and parts are then moved together: on
  // one thread nothing moves, and no memory beyond the list is touched.
  SomeElements list_shared(const std::int32_t* ids, std::int64_t n, const Workers& workers) {
    std::int32_t* const list = list_.get(static_cast<std::size_t>(n));
    const std::int64_t parts = parts_for(workers);
    std::int64_t sizes[kMostParts];
    parallel_for(parts, workers, [&](std::int64_t p) {
      const std::int64_t begin = n * p / parts, end = n * (p + 1) / parts;
      std::int64_t k = begin;
      for (std::int64_t i = begin; i < end; ++i) {
        list[k] = static_cast<std::int32_t>(i);
        k += is_shared(ids[i]);
      }
      sizes[p] = k - begin;
    });
    std::int64_t size = sizes[0];
    for (std::int64_t p = 1; p < parts; ++p) {
      std::memmove(list + size, list + n * p / parts,
                   static_cast<std::size_t>(sizes[p]) * sizeof(std::int32_t));
      size += sizes[p];
    }
    return {size, list};
  }

 private:
  typedef std::uint64_t Word;
  static constexpr std::uint32_t kIds = 32;  // of a word
  static constexpr Word kOnce = 0x5555555555555555;
  static constexpr std::int64_t kMostParts = 8;

  static std::int64_t parts_for(const Workers& workers) {
    return std::clamp<std::int64_t>(workers.threads, 1, kMostParts);
  }
  // 0: no element has the id; 1: one has; 3: several.
  Word bits_of(std::int32_t id) const {
    const auto place = static_cast<std::uint32_t>(id);
    return words_[place / kIds] >> (2 * place) % 64 & 3;
  }

  Buffer<Word> memory_;
  Word* words_ = nullptr;
  Buffer<std::int32_t> list_;
  std::int64_t count_ = 0;
};

}  // namespace diffsort::DIFFSORT_LEVEL
