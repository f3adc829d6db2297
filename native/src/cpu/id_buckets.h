// Elements of a long row in buckets of their block ids (bucket_split.h), for sums over blocks that reach all
// over the row: a block lies within one bucket, whose sums fit into a cache. And pieces of a row, for
// what goes from one end to the other.
// Cost: that of bucket_split.h.
// Chosen: by long_rank_vjp.h and long_sort_vjp.h, for what is neither alone in its block nor in one that many are
// in, or, where that is most of the row, for all of it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "bucket_split.h"
#include "buffer.h"
#include "levels.h"

namespace diffsort::DIFFSORT_LEVEL {

// The elements of a row that are worked on: all, or those at some positions, which rise.
struct AllElements {
  std::int64_t size;
  std::int64_t operator[](std::int64_t k) const { return k; }
};
struct SomeElements {
  std::int64_t size;
  const std::int32_t* at;
  std::int64_t operator[](std::int64_t k) const { return at[k]; }
};

// Their block ids as numbers of buckets: the upper bits.
template <class Elements>
class IdBuckets {
 public:
  // Of rows with n elements.
  IdBuckets(const std::int32_t* ids, std::int64_t n, const Elements& elements)
      : ids_(ids), n_(n), elements_(elements) {
    while (buckets() > BucketSplit::kMostBuckets && shift_ < 16) ++shift_;
  }
  std::int32_t operator()(std::int64_t k) const { return ids_[elements_[k]] >> shift_; }
  std::uint16_t within_bucket(std::int64_t k) const {
    return static_cast<std::uint16_t>(ids_[elements_[k]] & static_cast<std::int32_t>(width() - 1));
  }
  std::int64_t elements() const { return elements_.size; }
  std::int64_t buckets() const { return ((n_ - 1) >> shift_) + 1; }
  std::int64_t width() const { return std::int64_t{1} << shift_; }

 private:
  const std::int32_t* ids_;
  std::int64_t n_;
  Elements elements_;
  int shift_ = 11;
};

// Moves elements to buckets, as E, in memory that is kept.
class MovedElements {
 public:
  // The memory, and the places in it; elements are then to be moved there.
  template <class E, class I>
  E* plan(const I& ids, const Workers& workers) {
    split.plan(ids.elements(), ids.buckets(), kGap, ids, workers);
    const auto places = static_cast<std::size_t>(split.places());
    return reinterpret_cast<E*>(memory_.get(places * sizeof(E)));
  }

  BucketSplit split;

 private:
  // Blocks of one element make buckets of a power of two, and streams that far apart would share a few
  // sets of the caches.
  static constexpr std::int64_t kGap = 24;

  Buffer<unsigned char> memory_;
};

constexpr std::int64_t kPiece = std::int64_t{1} << 15;
inline std::int64_t pieces(std::int64_t n) {
  return (n + kPiece - 1) / kPiece;
}
inline std::pair<std::int64_t, std::int64_t> piece(std::int64_t p, std::int64_t n) {
  return {p * kPiece, std::min((p + 1) * kPiece, n)};
}

}  // namespace diffsort::DIFFSORT_LEVEL
