#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "diffsort/parallel.h"

using namespace diffsort;

TEST_CASE("every row is visited once, for any number of threads") {
  for (const int threads : {-1, 0, 1, 2, 3, 7, 64}) {
    for (const std::int64_t rows : {0, 1, 2, 5, 63, 64, 65}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(rows));
      for_each_row_range(rows, 1 << 15, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) ++visits[static_cast<std::size_t>(r)];
      });
      for (const auto& count : visits) REQUIRE(count == 1);
    }
  }
}

TEST_CASE("an exception of any thread reaches the caller") {
  for (const std::int64_t culprit : {0, 1, 3}) {
    CHECK_THROWS_AS(for_each_row_range(4, 1 << 20, 4,
                                       [&](std::int64_t begin, std::int64_t) {
                                         if (begin == culprit) throw std::runtime_error("row");
                                       }),
                    std::runtime_error);
  }
}
