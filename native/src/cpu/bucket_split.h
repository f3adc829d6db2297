// Long rows by parts that fit into caches.
//
// A sort, and everything that follows it, reaches all over its row, and waits for memory where the
// row is larger than the caches. So the elements of a long row are first moved to buckets, in order of
// value or of block id, which keep the order in which they came. What belongs to a bucket is then
// worked on in its own memory, and the results leave it in the same order: a second pass over the row
// asks for the bucket of each element again and takes the next result there. Nothing has to remember
// where an element came from (what databases call partition and replay).
//
// The row is read in segments, and what a segment finds in a bucket has its own places there. So
// threads share the work by segments, and the places are the same for any number of them.
// Cost: two reads of the row to split it and one to replay, each with a stream per bucket. Scratch:
// 4 bytes for each bucket of each segment, of which there are 64 at most.
// Chosen: sorted_row.h, for values of more than 65536 elements; id_buckets.h, for block ids.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "diffsort/parallel.h"
#include "levels.h"

namespace diffsort::DIFFSORT_LEVEL {

class BucketSplit {
 public:
  static constexpr std::int64_t kMostBuckets = 1024;  // streams that the nearest cache nearly holds

  // About `size` elements to a bucket where they are spread evenly.
  static std::int64_t buckets_for(std::int64_t n, std::int64_t size) {
    const std::int64_t buckets = n / size + 1;
    return buckets < kMostBuckets ? buckets : kMostBuckets;
  }

  // bucket(i), in [0, buckets), is that of element i. `gap` places are left free behind each bucket.
  template <class Bucket>
  void plan(std::int64_t n, std::int64_t buckets, std::int64_t gap, const Bucket& bucket,
            const Workers& workers) {
    n_ = n;
    buckets_ = buckets;
    gap_ = gap;
    segments_ = std::min(kMostSegments, n / kShortestSegment + 1);
    const auto size = static_cast<std::size_t>(buckets);
    places_.assign(static_cast<std::size_t>(segments_) * size, 0);
    parallel_for(segments_, workers, [&](std::int64_t s) {
      std::uint32_t* const counts = places_.data() + s * buckets;
      for_each_chunk(s, bucket, [&](std::int64_t, std::int64_t count, const std::int32_t* in) {
        for (std::int64_t k = 0; k < count; ++k) ++counts[in[k]];
      });
    });
    starts_.resize(size + 1);
    std::uint32_t sum = 0;
    for (std::size_t b = 0; b < size; ++b) {
      starts_[b] = sum;
      for (std::size_t at = b; at < places_.size(); at += size) {
        const std::uint32_t count = places_[at];
        places_[at] = sum;
        sum += count;
      }
      sum += static_cast<std::uint32_t>(gap);
    }
    starts_[size] = sum;
  }

  // visit(i, place) for every element, with its place among all buckets; those of a segment in order.
  template <class Bucket, class Visit>
  void for_each(const Bucket& bucket, const Workers& workers, const Visit& visit) const {
    parallel_for(segments_, workers, [&](std::int64_t s) {
      const auto begin = places_.begin() + s * buckets_;
      std::vector<std::uint32_t> places(begin, begin + buckets_);
      std::uint32_t* const next = places.data();
      for_each_chunk(s, bucket, [&](std::int64_t i, std::int64_t count, const std::int32_t* in) {
        for (std::int64_t k = 0; k < count; ++k) visit(i + k, std::int64_t{next[in[k]]++});
      });
    });
  }

  std::int64_t buckets() const { return buckets_; }
  std::int64_t start(std::int64_t b) const { return starts_[static_cast<std::size_t>(b)]; }
  std::int64_t size(std::int64_t b) const { return start(b + 1) - start(b) - gap_; }
  std::int64_t places() const { return start(buckets_); }

 private:
  static constexpr std::int64_t kMostSegments = 64, kShortestSegment = std::int64_t{1} << 15;
  static constexpr std::int64_t kChunk = 1024;

  // visit(i, count, buckets) for some elements at a time, whose buckets are found side by side.
  template <class Bucket, class Visit>
  void for_each_chunk(std::int64_t segment, const Bucket& bucket, const Visit& visit) const {
    const std::int64_t end = n_ * (segment + 1) / segments_;
    for (std::int64_t i = n_ * segment / segments_; i < end; i += kChunk) {
      const std::int64_t count = std::min(kChunk, end - i);
      std::int32_t in[kChunk];
      for (std::int64_t k = 0; k < count; ++k) in[k] = bucket(i + k);
      visit(i, count, in);
    }
  }

  std::int64_t n_ = 0, buckets_ = 0, gap_ = 0, segments_ = 0;
  std::vector<std::uint32_t> places_;  // of each segment in each bucket
  std::vector<std::int64_t> starts_;   // of the buckets
};

}  // namespace diffsort::DIFFSORT_LEVEL
