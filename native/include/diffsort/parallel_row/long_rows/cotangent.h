// The float32 cotangent of l2 ranks, or of sorted values, alone, in rows that no team holds: without a
// sort, and without lists of the elements of blocks. Steps over all rows of a chunk, each a launch:
//
//     settle   rows that are one block (one_block_cotangents.h), by two launches; what follows leaves these
//              alone
//     clear    marks and sums
//     mark     the start of every block, which its elements name
//     note     of each block of at least two elements the largest term's power of two; of an element alone,
//              where w is asked for, its term
//     add      terms as multiples of a fraction of that, by atomics: integers are the same in whatever
//              order they come
//     finish   means, and whether sizes fit the starts
//     check    w's ids, where w is asked for
//     write    w_e = mean of its block, z_e = (g_e - mean of its block) / strength
//
// A term has 94 - log2(n) bits, 77 for n = 10^5 and 70 for 10^7, so that n of them do not overflow an
// integer of 96; means are off by a unit at most, which is little even beside a mean that is an n-th of
// the largest term. Blocks of at least two have the slot start / 2, which no other such block shares.
// Atomics, and reads, of one address wait for each other: so a team deals with the block of its part's
// first element, which may be all of the part, before it goes to memory, and warps add up others.
//
// Workspace per element: 10.1 bytes, by w 14.1.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "diffsort/arithmetic.h"
#include "diffsort/atomics.h"
#include "diffsort/host_device.h"
#include "diffsort/parallel_row/long_rows/one_block_cotangents.h"
#include "diffsort/parallel_row/long_rows/terms.h"
#include "diffsort/parallel_row/rows/linearized_rows.h"
#include "diffsort/parallel_row/rows/row_parts.h"
#include "diffsort/parallel_row/team/arena.h"
#include "diffsort/parallel_row/team/fixed_point.h"
#include "diffsort/parallel_row/team/lane_words.h"
#include "diffsort/parallel_row/team_rows/cotangent.h"

namespace diffsort {

// What steps share: a chunk of rows, and the workspace. Slots hold a sum, and then a mean.
struct LongCotangent : OneBlockCotangents {
  std::int64_t rows;
  LongTerms terms;

  RowStates states;
  std::uint32_t* marks;  // [row][position / 32]
  std::int64_t* sums;    // [row][slot]
  std::uint32_t *lows, *peaks, *counts;
  std::uint32_t* alone_terms;  // [row][start], by w: the bits of a float

  static bool serves(Regularization regularization, const LinearizedRows& at,
                     const RowDirections& along) {
    return regularization == Regularization::l2 &&
           OneBlockCotangents::serves<Regularization::l2>(at, along);
  }

  LongCotangent(Arena& arena, const LinearizedRows& at, const RowDirections& along)
      : OneBlockCotangents(Regularization::l2, at, along, 0), rows(at.set.rows), terms(n) {
    states.invalid = invalid = arena.take<std::uint32_t>(rows);
    settled = arena.take<std::uint32_t>(rows);
    tile_sums = arena.take<TileSum>(rows * tiles_of_row(n));
    marks = arena.take<std::uint32_t>(rows * mark_words());
    sums = arena.take<std::int64_t>(rows * slots());
    lows = arena.take<std::uint32_t>(rows * slots());
    peaks = arena.take<std::uint32_t>(rows * slots());
    counts = arena.take<std::uint32_t>(rows * slots());
    alone_terms = of_w ? arena.take<std::uint32_t>(rows * n) : nullptr;
  }

  DIFFSORT_HD std::int64_t mark_words() const { return words_of_bits(n); }
  DIFFSORT_HD std::int64_t slots() const { return n / 2; }
  DIFFSORT_HD std::int64_t slot(std::int64_t r, std::int64_t start) const {
    return r * slots() + start / 2;
  }

  DIFFSORT_HD std::uint32_t* mark_of(std::int64_t r, std::int64_t position) const {
    return marks + r * mark_words() + position / 32;
  }
  // Once all are marked.
  DIFFSORT_HD bool is_start(std::int64_t r, std::int64_t position) const {
    return (*mark_of(r, position) >> (position % 32) & 1) != 0;
  }
  // Of a start: the row's last element is one itself, if it is asked for.
  DIFFSORT_HD bool alone(std::int64_t r, std::int64_t start) const {
    return is_start(r, start + 1 < n ? start + 1 : start);
  }

  // Whether nothing is to be done for a row, or can be.
  DIFFSORT_HD bool leaves(std::int64_t r) const { return settled[r] != 0 || states.is_invalid(r); }

  // Of a row whose ids are valid.
  DIFFSORT_HD std::int32_t start(std::int64_t r, std::int64_t e) const {
    return block_start(block_z.row(r)[e]);
  }
};

// --- All others. Marks are looked up when ids are loaded, for several elements at once

struct ClearPart {
  struct Shared {};

  LongCotangent c;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(c.parts, k);
    const std::int64_t r = part.row;
    if (c.settled[r] != 0) return;
    team.for_each(words_of_bits(part.size()),
                  [&](std::int64_t w) { *c.mark_of(r, part.first + 32 * w) = 0; });
    team.for_each(part.size() / 2, [&](std::int64_t s) {
      const std::int64_t slot = c.slot(r, part.first + 2 * s);
      c.sums[slot] = 0;
      c.lows[slot] = c.peaks[slot] = c.counts[slot] = 0;
    });
  }
};

struct MarkStarts {
  struct Shared {};

  LongCotangent c;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(c.parts, k);
    if (c.settled[part.row] != 0) return;
    const std::int32_t* const ids = c.block_z.row(part.row) + part.first;
    const std::int32_t first = ids[0];
    team.for_each(1, [&](int) { mark(part.row, first, 0); });
    struct Read {
      std::int32_t id;
      std::uint32_t marked;  // the word of its start; of an id that cannot be one, any
    };
    team.stream(
        part.size(),
        [&](std::int64_t i) {
          const std::int32_t id = ids[i];
          return Read{id,
                      load_bits(c.mark_of(part.row, is_valid_id(id, c.n) ? block_start(id) : 0))};
        },
        [&](std::int64_t, const Read& own) {
          if (own.id != first) mark(part.row, own.id, own.marked);
        });
  }

 private:
  DIFFSORT_HD void mark(std::int64_t r, std::int32_t id, std::uint32_t marked) const {
    if (!is_valid_id(id, c.n)) return c.states.make_invalid(r);
    const std::int32_t start = block_start(id);
    const std::uint32_t bit = std::uint32_t{1} << (start % 32);
    if ((marked & bit) == 0) set_bits(c.mark_of(r, start), bit);
  }
};

struct NoteLargest {
  struct Shared {};

  LongCotangent c;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(c.parts, k);
    const std::int64_t r = part.row;
    if (c.leaves(r)) return;
    const auto exponent = [](float g) { return static_cast<std::uint32_t>(exponent_of(g)); };
    const std::int32_t first = c.start(r, part.first);
    if (!c.alone(r, first)) {
      const std::uint32_t largest = team.reduce(
          part.size(), std::uint32_t{0},
          [&](std::int64_t i) {
            const float g = c.g.row(r)[part.first + i];
            return c.start(r, part.first + i) == first ? exponent(g) : 0;
          },
          [](std::uint32_t a, std::uint32_t b) { return a < b ? b : a; });
      team.for_each(1, [&](int) { raise_word(c.peaks + c.slot(r, first), largest); });
    }
    struct Read {
      std::int32_t start;
      bool alone;
      float g;
    };
    team.stream(
        part.size(),
        [&](std::int64_t i) {
          const std::int32_t start = c.start(r, part.first + i);
          return Read{start, c.alone(r, start), c.g.row(r)[part.first + i]};
        },
        [&](std::int64_t, const Read& own) {
          if (own.alone) {
            if (c.of_w) {
              store_bits(c.alone_terms + r * c.n + own.start, copy_bits<std::uint32_t>(own.g));
            }
          } else if (own.start != first) {
            raise_word(c.peaks + c.slot(r, own.start), exponent(own.g));
          }
        });
  }
};

struct AddTerms {
  struct Shared {};

  LongCotangent c;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(c.parts, k);
    const std::int64_t r = part.row;
    if (c.leaves(r)) return;
    const std::int32_t first = c.start(r, part.first);
    if (!c.alone(r, first)) {
      const Sum sum = team.reduce(
          part.size(), Sum{},
          [&](std::int64_t i) {
            const std::int64_t e = part.first + i;
            if (c.start(r, e) != first) return Sum{};
            const LongTerms::Term own = term(r, e, first);
            return Sum{own.high, own.low, 1};
          },
          [](const Sum& a, const Sum& b) {
            return Sum{a.high + b.high, a.low + b.low, a.count + b.count};
          });
      team.for_each(1, [&](int) { add(r, first, sum); });
    }
    team.for_each_lanes((part.size() + kWords * 32 - 1) / (kWords * 32),
                        [&](const auto& lanes, std::int64_t few) {
                          add_words(lanes, part, part.first + kWords * 32 * few, first);
                        });
  }

 private:
  struct Sum {
    std::int64_t high = 0;
    std::uint64_t low = 0;  // more than 32 bits
    std::uint32_t count = 0;
  };
  using Words = LaneWords<5>;  // 27 bits three times and 15 of 96, and a count

  static constexpr int kPiece = 27;
  static constexpr std::uint32_t kMask = (std::uint32_t{1} << kPiece) - 1;
  static constexpr int kTogether = 2;  // blocks of a warp's elements that are added up first
  static constexpr int kWords = 4;     // of 32 elements, that a warp takes at a time

  DIFFSORT_HD LongTerms::Term term(std::int64_t r, std::int64_t e, std::int32_t start) const {
    return c.terms.split(c.g.row(r)[e], static_cast<int>(c.peaks[c.slot(r, start)]));
  }

  DIFFSORT_HD void add(std::int64_t r, std::int32_t start, const Sum& sum) const {
    const std::int64_t slot = c.slot(r, start);
    const auto low = static_cast<std::uint32_t>(sum.low);
    const std::uint32_t before = add_to_word(c.lows + slot, low);
    const std::uint32_t carry = before + low < low ? 1 : 0;
    add_to_integer(c.sums + slot, sum.high + static_cast<std::int64_t>(sum.low >> 32) + carry);
    add_to_word(c.counts + slot, sum.count);
  }

  DIFFSORT_HD static Words cut(const LongTerms::Term& term) {
    const auto high = static_cast<std::uint64_t>(term.high);
    const std::uint64_t lower = high << 32 | term.low;
    return Words{{static_cast<std::uint32_t>(lower) & kMask,
                  static_cast<std::uint32_t>(lower >> kPiece) & kMask,
                  static_cast<std::uint32_t>(high >> (2 * kPiece - 32)) & kMask,
                  static_cast<std::uint32_t>(high >> (3 * kPiece - 32)), 1}};
  }
  DIFFSORT_HD static Sum together(const Words& words) {
    const std::uint64_t low = (std::uint64_t{words.word[1]} << kPiece) + words.word[0];
    const std::uint64_t high = (std::uint64_t{words.word[2]} << (2 * kPiece - 32)) +
                               (std::uint64_t{words.word[3]} << (3 * kPiece - 32));
    return {static_cast<std::int64_t>(high), low, words.word[4]};
  }

  // What is in blocks of at least two that are not the part's first one, of the elements from e on.
  template <class Lanes>
  DIFFSORT_HD void add_words(const Lanes& lanes, const Part& part, std::int64_t e,
                             std::int32_t first) const {
    auto others = lanes.template each<std::uint32_t>();  // a bit for each word
    lanes.for_each([&](int lane) {
      std::uint32_t bits = 0;
      DIFFSORT_UNROLLED
      for (int word = 0; word < kWords; ++word) {
        const std::int64_t i = e + 32 * word + lane;
        const std::int32_t start = c.start(part.row, i < part.last ? i : part.last - 1);
        const bool alone = c.alone(part.row, start);
        if (i < part.last && start != first && !alone) bits |= std::uint32_t{1} << word;
      }
      others[lane] = bits;
    });
    DIFFSORT_ROLLED
    for (int word = 0; word < kWords; ++word) {
      add_others(lanes, part.row, e + 32 * word,
                 lanes.ballot([&](int lane) { return (others[lane] >> word & 1) != 0; }));
    }
  }

  template <class Lanes>
  DIFFSORT_HD void add_others(const Lanes& lanes, std::int64_t r, std::int64_t e,
                              std::uint32_t others) const {
    DIFFSORT_ROLLED
    for (int round = 0; others != 0; ++round) {
      const std::int32_t named = c.start(r, e + lowest_bit(others));
      std::uint32_t same = lanes.ballot(
          [&](int lane) { return has_lane(others, lane) && c.start(r, e + lane) == named; });
      const std::uint32_t some = round < kTogether ? same : others;
      lanes.template gather<Gather::sum>(
          some, same, [&](int lane) { return cut(term(r, e + lane, c.start(r, e + lane))); },
          [&](int lane, const Words& words) { add(r, c.start(r, e + lane), together(words)); });
      others &= ~some;
    }
  }
};

struct FinishBlocks {
  struct Shared {};

  LongCotangent c;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(c.parts, k);
    if (c.settled[part.row] != 0) return;
    team.for_each(part.size() / 2, [&](std::int64_t s) { finish(part.row, part.first + 2 * s); });
  }

 private:
  // The block that starts at this position or the next one, if there is one of at least two elements.
  DIFFSORT_HD void finish(std::int64_t r, std::int64_t start) const {
    const std::int64_t slot = c.slot(r, start);
    const std::uint32_t count = c.counts[slot];
    if (count == 0) return;
    if (!c.is_start(r, start) || c.alone(r, start)) ++start;
    const std::int64_t end = start + count;
    if (end > c.n || (end < c.n && !c.is_start(r, end))) c.states.make_invalid(r);
    const double mean =
        c.terms.mean({c.sums[slot], c.lows[slot]}, static_cast<int>(c.peaks[slot]), count);
    c.sums[slot] = copy_bits<std::int64_t>(mean);
  }
};

struct CheckW {
  struct Shared {};

  LongCotangent c;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(c.parts, k);
    const std::int64_t r = part.row;
    if (c.settled[r] != 0) return;  // whether a row is invalid is written meanwhile
    const std::int32_t* const ids = c.block_w.row(r) + part.first;
    team.stream(
        part.size(),
        [&](std::int64_t i) {
          const bool valid = is_valid_id(ids[i], c.n);
          const bool marked = c.is_start(r, valid ? block_start(ids[i]) : 0);
          return valid && marked;
        },
        [&](std::int64_t, bool names_a_start) {
          if (!names_a_start) c.states.make_invalid(r);
        });
  }
};

struct WriteCotangent {
  struct Shared {};

  LongCotangent c;

  template <class Team>
  DIFFSORT_HD void operator()(Team& team, Shared&, std::int64_t k) const {
    const Part part(c.parts, k);
    const std::int64_t r = part.row;
    if (c.settled[r] != 0) return;
    float* const out = c.out + r * c.n;
    if (c.states.is_invalid(r) || !c.is_start(r, 0)) {
      return team.for_each(part.size(), [=](std::int64_t i) {
        out[part.first + i] = std::numeric_limits<float>::quiet_NaN();
      });
    }
    const double scale = c.scale(r);
    const DenseRows<const std::int32_t> ids = c.of_w ? c.block_w : c.block_z;
    team.stream(
        part.size(),
        [&](std::int64_t i) {
          const std::int32_t id = ids.row(r)[part.first + i];
          return Read{id, c.alone(r, block_start(id)), c.of_w ? 0.0f : c.g.row(r)[part.first + i]};
        },
        [&](std::int64_t i, const Read& own) {
          out[part.first + i] = static_cast<float>(c.of_w ? of_w(r, own) : of_z(r, own, scale));
        });
  }

 private:
  struct Read {
    std::int32_t id;
    bool alone;
    float g;
  };

  DIFFSORT_HD double of_w(std::int64_t r, const Read& own) const {
    const std::int32_t start = block_start(own.id);
    if (!own.alone) return mean(r, start);
    return static_cast<double>(copy_bits<float>(c.alone_terms[r * c.n + start]));
  }
  // Of an element alone nothing is left, unless it is infinite.
  DIFFSORT_HD double of_z(std::int64_t r, const Read& own, double scale) const {
    if (is_infinite_block(own.id)) return 0.0;
    const auto g = static_cast<double>(own.g);
    return cotangent_of_z(scale, g, own.alone ? g : mean(r, block_start(own.id)), 1.0);
  }
  DIFFSORT_HD double mean(std::int64_t r, std::int32_t start) const {
    return copy_bits<double>(c.sums[c.slot(r, start)]);
  }
};

// --- All rows

template <class Executor>
std::size_t long_cotangent_workspace(const Executor& executor, const LinearizedRows& at,
                                     const RowDirections& along) {
  if (at.set.rows == 0) return 0;
  Arena arena;
  const std::int64_t rows = rows_per_chunk(executor.chunk_elements(), at.set.rows, at.set.n);
  LongCotangent(arena, at.part(0, rows), along);
  return arena.bytes();
}

template <class Executor>
void run_long_cotangent(Executor& executor, const char* name, const LinearizedRows& at,
                        const RowDirections& along, void* workspace) {
  if (at.set.rows == 0) return;
  const std::int64_t step = rows_per_chunk(executor.chunk_elements(), at.set.rows, at.set.n);
  for (std::int64_t r = 0; r < at.set.rows; r += step) {
    Arena arena(workspace);
    const std::int64_t rows = std::min(step, at.set.rows - r);
    const LongCotangent c(arena, at.part(r, rows), along.from(r, at.set.n));
    const std::int64_t teams = rows * c.parts.count;
    settle_one_blocks(executor, name, rows, c);
    executor.for_each_team(name, teams, ClearPart{c});
    executor.for_each_team(name, teams, MarkStarts{c});
    executor.for_each_team(name, teams, NoteLargest{c});
    executor.for_each_team(name, teams, AddTerms{c});
    executor.for_each_team(name, teams, FinishBlocks{c});
    if (c.of_w) executor.for_each_team(name, teams, CheckW{c});
    executor.for_each_team(name, teams, WriteCotangent{c});
  }
}

}  // namespace diffsort
