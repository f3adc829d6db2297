// Rows spread over threads.
#pragma once

#include <cstdint>
#include <functional>

namespace diffsort {

// Calls body(begin, end) on disjoint ranges that cover [0, rows), on at most `threads` threads, the
// caller being one of them. Threads live for one call only, so a forked child inherits none.
// An exception of any body is thrown to the caller once all threads have ended.
void for_each_row_range(std::int64_t rows, std::int64_t row_length, int threads,
                        const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace diffsort
