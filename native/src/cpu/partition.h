// Long rows by parts that fit into caches.
//
// A sort, and everything that follows it, reaches all over its row, and waits for memory where the
// row is larger than the caches. So the elements of a long row are first moved to buckets, in order of
// value or of block id, which keep the order in which they came. What belongs to a bucket is then
// worked on in its own memory, and the results leave it in the same order: a second pass over the row
// asks for the bucket of each element again and takes the next result there. Nothing has to remember
// where an element came from (partition and replay).
// Cost: two reads of the row to partition it and one to replay, each with a stream per bucket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace diffsort::DIFFSORT_LEVEL {

class Partition {
 public:
  static constexpr std::int64_t kMostBuckets = 2048;  // streams that the address caches hold

  // About `size` elements to a bucket where they are spread evenly.
  static std::int64_t buckets_for(std::int64_t n, std::int64_t size) {
    const std::int64_t buckets = n / size + 1;
    return buckets < kMostBuckets ? buckets : kMostBuckets;
  }

  // bucket(i), in [0, buckets), is that of element i.
  template <class Bucket>
  void plan(std::int64_t n, std::int64_t buckets, const Bucket& bucket) {
    n_ = n;
    starts_.assign(static_cast<std::size_t>(buckets) + 1, 0);
    for (std::int64_t i = 0; i < n; ++i) ++starts_[static_cast<std::size_t>(bucket(i)) + 1];
    for (std::size_t b = 1; b < starts_.size(); ++b) starts_[b] += starts_[b - 1];
  }

  // visit(i, place) for every element, in order: its place among all buckets.
  template <class Bucket, class Visit>
  void for_each(const Bucket& bucket, const Visit& visit) {
    next_.assign(starts_.begin(), starts_.end());
    for (std::int64_t i = 0; i < n_; ++i) visit(i, next_[static_cast<std::size_t>(bucket(i))]++);
  }

  std::int64_t buckets() const { return static_cast<std::int64_t>(starts_.size()) - 1; }
  std::int64_t start(std::int64_t b) const { return starts_[static_cast<std::size_t>(b)]; }
  std::int64_t size(std::int64_t b) const { return start(b + 1) - start(b); }

 private:
  std::int64_t n_ = 0;
  std::vector<std::int64_t> starts_, next_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
