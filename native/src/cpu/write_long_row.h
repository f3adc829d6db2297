// The results of a long row, part by part on the threads of a call.
//
// Parts are the buckets of the operand whose elements are written, or pieces of the sorted row where
// nothing is in buckets. A block may reach over several parts: its values are prepared before
// anything is written, since results take the place of the sorted values.
// Cost: that of write_row.h. Scratch: a few numbers per part.
// Chosen: rows of more than kLongestSort (65536) elements.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "block_values.h"
#include "operand.h"
#include "pooling.h"
#include "row.h"
#include "sorted_row.h"
#include "write_row.h"

namespace diffsort::DIFFSORT_LEVEL {

template <class T, Regularization R, class Z, class W>
class LongRowWriter {
 public:
  LongRowWriter(std::int64_t n, double strength, const Z& z, const W& w,
                const PooledBlocks<R>& blocks, const DenseOutput<T>& out, const Workers& workers)
      : n_(n), strength_(strength), z_(z), w_(w), blocks_(blocks), out_(out), workers_(workers) {}

  // The sorted operands; null: rho.
  void write(SortedRow<T>* z, SortedRow<T>* w) {
    // The ids of w first, for the results take the place of sorted values.
    if (w != nullptr && w->buckets() != nullptr) {
      divide(w->buckets(), false);
      w->write_by_buckets(nullptr, out_.block_w, workers_,
                          [&](std::int64_t part, SortedPart<T>, T*, std::int32_t* ids) {
                            write_part(part, z_, {nullptr, nullptr, ids, out_.sign});
                          });
      out_.block_w = nullptr;
    }
    if (z != nullptr && z->buckets() != nullptr) {
      divide(z->buckets(), out_.result != nullptr);
      z->write_by_buckets(
          out_.result, out_.block_z, workers_,
          [&](std::int64_t part, SortedPart<T> values, T* result, std::int32_t* ids) {
            write_part(part, values, {result, ids, nullptr, out_.sign});
          });
      out_.result = nullptr;
      out_.block_z = nullptr;
    }
    if (out_.result == nullptr && out_.block_z == nullptr && out_.block_w == nullptr) return;
    divide(nullptr, out_.result != nullptr);
    parallel_for(static_cast<std::int64_t>(parts_.size()), workers_,
                 [&](std::int64_t part) { write_part(part, z_, out_); });
  }

 private:
  static constexpr std::int64_t kPieceLength = std::int64_t{1} << 14;

  // Without buckets, into pieces.
  void divide(const BucketSplit* buckets, bool with_values) {
    const std::int64_t parts =
        buckets != nullptr ? buckets->buckets() : (n_ + kPieceLength - 1) / kPieceLength;
    parts_.clear();
    std::int64_t block = 0;
    for (std::int64_t p = 0; p < parts; ++p) {
      const std::int64_t begin = buckets != nullptr ? buckets->start(p) : p * kPieceLength;
      const std::int64_t end =
          buckets != nullptr ? buckets->start(p + 1) : std::min(begin + kPieceLength, n_);
      while (block < blocks_.count() && blocks_.at(block).end <= begin) ++block;
      parts_.push_back({begin, end, block});
    }
    if (with_values) prepare_values();
  }

  // Of the blocks that reach from one part into others, each by the part in which it starts.
  void prepare_values() {
    parallel_for(static_cast<std::int64_t>(parts_.size()), workers_, [&](std::int64_t p) {
      RowPart<T, R>& part = parts_[static_cast<std::size_t>(p)];
      const auto ends_later = [&](std::int64_t end, const PooledBlock& b) { return end < b.end; };
      const auto leaving = std::upper_bound(blocks_.begin(), blocks_.end(), part.end, ends_later);
      if (leaving == blocks_.end() || leaving->start >= part.end || leaving->start < part.begin) {
        return;
      }
      part.last = BlockValues<T, R>({leaving->start, leaving->end, false}, 1.0 / strength_, z_, w_,
                                    blocks_.sums(leaving - blocks_.begin()), out_.sign);
    });
    for (std::size_t p = 1; p < parts_.size(); ++p) {
      const RowPart<T, R>& left = parts_[p - 1];
      const bool reaches_through = left.block == parts_[p].block && left.block < blocks_.count() &&
                                   blocks_.at(left.block).start < left.begin;
      parts_[p].first = reaches_through ? left.first : left.last;
    }
  }

  template <class Values>
  void write_part(std::int64_t part, const Values& z, const DenseOutput<T>& out) const {
    RowWriter<T, R, Values, W>(strength_, z, w_, blocks_, out,
                               parts_[static_cast<std::size_t>(part)])
        .write();
  }

  std::int64_t n_;
  double strength_;
  Z z_;
  W w_;
  const PooledBlocks<R>& blocks_;
  DenseOutput<T> out_;
  const Workers& workers_;
  std::vector<RowPart<T, R>> parts_;
};

}  // namespace diffsort::DIFFSORT_LEVEL
