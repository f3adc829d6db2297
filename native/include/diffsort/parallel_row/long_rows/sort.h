// Sorts the rows of a chunk, each by itself: ascending by key, stable, least significant digit first.
//
// A row's number is known to the team that works on it, so it takes no part in the sort. Rows that
// are settled are left alone: their teams return at once, which is all that a sort costs where no
// row needs one. For every digit:
//     count_digits   a team counts the digits in its part of a row
//     move_elements  from the counts of all parts a team knows where its elements of each digit go,
//                    and takes them there, tile by tile
// The first digit reads the elements where they are, so there are no keys to be loaded before.
//
// Cost per element: 20 bytes for each digit; for the first one what the source reads, twice, and 8. Two
// launches a digit. Memory: keys and places twice, and a number for each digit of each part.
#pragma once

#include <algorithm>
#include <cstdint>

#include "diffsort/atomics.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/rows/row_parts.h"
#include "diffsort/parallel_row/team/keyed_place.h"

namespace diffsort {

// What a digit is to sort: for the first one the source, which has the keys of elements and gives
// element i of row r as a KeyedPlace, then what the digit before has left. Both in one, so that their
// kernels are there once.
template <class Source>
struct SortedSoFar {
  Source source;
  KeyedPlaces rows;
  std::int64_t n;
  bool is_first;

  DIFFSORT_HD KeyedPlace operator()(std::int64_t r, std::int64_t i) const {
    if (is_first) return source(r, i);
    return {rows.keys[r * n + i], rows.places[r * rows.place_stride + i]};
  }
  DIFFSORT_HD std::uint32_t key(std::int64_t r, std::int64_t i) const {
    return is_first ? source.key(r, i) : rows.keys[r * n + i];
  }
};

// One digit of a sort, by a team for every part of a row.
template <class Source, int kDigitBits>
struct SortDigit {
  static constexpr int kDigits = 1 << kDigitBits;

  SortedSoFar<Source> from;
  RowParts parts;
  const std::uint32_t* settled;  // of each row: is there nothing to be done?
  int bit;                       // the digit's lowest
  std::uint32_t* counts;         // [row][part][digit]

  DIFFSORT_HD std::uint32_t digit(std::uint32_t key) const { return key >> bit & (kDigits - 1); }
  DIFFSORT_HD std::uint32_t* counts_of(std::int64_t row, std::int64_t part) const {
    return counts + (row * parts.count + part) * kDigits;
  }
};

template <class Source, int kDigitBits>
struct CountDigits {
  using Pass = SortDigit<Source, kDigitBits>;

  struct Shared {
    std::uint32_t counts[Pass::kDigits];
  };

  Pass pass;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared& shared, std::int64_t k) const {
    const Part part(pass.parts, k);
    if (pass.settled[part.row] != 0) return;
    team.for_each(Pass::kDigits, [&](std::int64_t d) { shared.counts[d] = 0; });
    team.stream(
        part.size(),
        [&](std::int64_t i) { return pass.digit(pass.from.key(part.row, part.first + i)); },
        [&](std::int64_t, std::uint32_t digit) { count_one(&shared.counts[digit]); });
    std::uint32_t* const counts = pass.counts_of(part.row, part.index);
    team.for_each(Pass::kDigits, [&](std::int64_t d) { counts[d] = shared.counts[d]; });
  }
};

template <class Source, int kDigitBits>
struct MoveElements {
  using Pass = SortDigit<Source, kDigitBits>;
  static constexpr int kDigits = Pass::kDigits, kGroup = 16;  // digits that are added up together

  struct Shared {
    std::uint32_t totals[kDigits], of_groups[kDigits / kGroup];
    std::uint32_t next[kDigits];   // where the part's next element of a digit goes
    std::uint32_t shift[kDigits];  // from the place in the sorted tile to that in the row
  };

  Pass pass;
  KeyedPlaces to;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared& shared, std::int64_t k) const {
    const Part part(pass.parts, k);
    if (pass.settled[part.row] != 0) return;
    find_first_places(team, shared, part);
    for (std::int64_t first = part.first; first < part.last; first += kTile) {
      const std::int64_t size = part.last - first < kTile ? part.last - first : kTile;
      team.template split<kDigitBits>(
          static_cast<int>(size), [&](int i) { return pass.from(part.row, first + i); },
          [&](std::uint32_t key) { return pass.digit(key); },
          [&](std::uint32_t digit, int begin, int end) {
            shared.shift[digit] = shared.next[digit] - static_cast<std::uint32_t>(begin);
            shared.next[digit] += static_cast<std::uint32_t>(end - begin);
          },
          [&](int p, const KeyedPlace& element) {
            const std::uint32_t i =
                shared.shift[pass.digit(element.key)] + static_cast<std::uint32_t>(p);
            to.keys[part.row * pass.parts.n + i] = element.key;
            to.places[part.row * to.place_stride + i] = element.place;
          });
    }
  }

 private:
  // Of each digit: behind all smaller digits of the row, and behind those of the parts before.
  template <class Team>
  DIFFSORT_HD void find_first_places(Team& team, Shared& shared, const Part& part) const {
    const std::uint32_t* const counts = pass.counts_of(part.row, 0);
    team.for_each(kDigits, [&](std::int64_t d) {
      std::uint32_t before = 0, total = 0;
      DIFFSORT_UNROLLED_BY(16)
      for (std::int64_t q = 0; q < pass.parts.count; ++q) {
        const std::uint32_t count = counts[q * kDigits + d];
        before += q < part.index ? count : 0;
        total += count;
      }
      shared.next[d] = before;
      shared.totals[d] = total;
    });
    const auto sum_totals = [&](std::int64_t first, std::int64_t last) {
      std::uint32_t sum = 0;
      for (std::int64_t d = first; d < last; ++d) sum += shared.totals[d];
      return sum;
    };
    team.for_each(kDigits / kGroup, [&](std::int64_t g) {
      shared.of_groups[g] = sum_totals(g * kGroup, (g + 1) * kGroup);
    });
    team.for_each(kDigits, [&](std::int64_t d) {
      std::uint32_t smaller = sum_totals(d / kGroup * kGroup, d);
      for (std::int64_t g = 0; g < d / kGroup; ++g) smaller += shared.of_groups[g];
      shared.next[d] += smaller;
    });
  }
};

// How many numbers the counts of a sort take.
inline std::int64_t digit_counts(std::int64_t rows, const RowParts& parts, int digit_bits) {
  return rows * parts.count << digit_bits;
}

// Sorts the elements of `source` by the lowest `bits` bits of their keys, which have no others, into
// `out`, by way of `spare`.
template <int kDigitBits, class Executor, class Source>
void sort_rows(Executor& executor, std::int64_t rows, const RowParts& parts,
               const std::uint32_t* settled, const Source& source, int bits, const KeyedPlaces& out,
               const KeyedPlaces& spare, std::uint32_t* counts) {
  const int digits = std::max(1, (bits + kDigitBits - 1) / kDigitBits);
  const std::int64_t teams = rows * parts.count;
  for (int k = 0; k < digits; ++k) {
    const bool ends_in_out = (digits - k) % 2 == 1;
    const KeyedPlaces &to = ends_in_out ? out : spare, &from = ends_in_out ? spare : out;
    const SortDigit<Source, kDigitBits> pass{
        {source, from, parts.n, k == 0}, parts, settled, k * kDigitBits, counts};
    executor.for_each_team("count_digits", teams, CountDigits<Source, kDigitBits>{pass});
    executor.for_each_team("move_elements", teams, MoveElements<Source, kDigitBits>{pass, to});
  }
}

}  // namespace diffsort
