// Block ids that no forward pass leaves, given to the derivatives that training calls, at each level of
// vector instructions. Ids are addresses of memory: none may lead out of its row, and what comes of
// them is what their formulas say, or NaN. Other rows of the call are not to notice.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cpu/solver.h"
#include "hostile_derivatives.h"
#include "plain_row.h"
#include "support.h"

using namespace diffsort;
using namespace diffsort::testing;

namespace {

using Ids = std::vector<std::int32_t>;

template <class V>
std::vector<V> row_of(const std::vector<V>& all, std::int64_t r, std::int64_t n) {
  return {all.begin() + r * n, all.begin() + (r + 1) * n};
}

// Ranks or sorted values of some rows, with the blocks of their forward pass.
template <class T>
struct Call {
  Problem problem;
  bool ranks;
  std::vector<T> x, g;
  Solved<T> solved;

  std::int64_t rows() const { return problem.space.rows(); }
  std::int64_t n() const { return problem.space.length; }
};

// Rows of several blocks, of which some have many elements.
template <class T>
Call<T> call_of(std::int64_t rows, std::int64_t n, Regularization regularization, bool ranks,
                std::mt19937_64& random) {
  const auto length = static_cast<double>(n);
  const double strength = !ranks                                 ? length / 4.0
                          : regularization == Regularization::l2 ? 4.0 / length
                                                                 : 0.5;
  Call<T> call{problem_of(rows, n, regularization, strength), ranks, {}, {}, {}};
  std::normal_distribution<double> normal;
  for (std::int64_t i = 0; i < rows * n; ++i) {
    call.x.push_back(static_cast<T>(normal(random)));
    call.g.push_back(static_cast<T>(normal(random)));
  }
  call.solved = ranks ? solve<T>(call.problem, call.x, {}) : solve<T>(call.problem, {}, call.x);
  return call;
}

// Derivatives, and for every row whether the level itself has found them.
template <class T>
struct Found {
  std::vector<T> cotangent;
  std::vector<bool> served;
};

// By a level, or null: by all that there is, which serves every row.
template <class T>
Found<T> vjp(const Call<T>& call, const Ids& block_z, const Ids& block_w, const Solver* level) {
  const std::int64_t n = call.n(), rows = call.rows();
  Found<T> found{std::vector<T>(call.g.size()),
                 std::vector<bool>(static_cast<std::size_t>(rows), true)};
  Linearization<T> at;
  (call.ranks ? at.z : at.w) = contiguous_rows<const T>(call.x.data(), n);
  at.result = contiguous_rows<const T>(call.solved.result.data(), n);
  at.block_z = contiguous_rows<const std::int32_t>(block_z.data(), n);
  at.block_w = contiguous_rows<const std::int32_t>(block_w.data(), n);
  Cotangents<T> cotangents;
  cotangents.g = contiguous_rows<const T>(call.g.data(), n);
  (call.ranks ? cotangents.z : cotangents.w) = contiguous_rows(found.cotangent.data(), n);
  if (level == nullptr) {
    project_vjp(call.problem, at, cotangents, 1);
    return found;
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    r = level->vjp(call.problem, at, cotangents, r, rows, 1);
    if (r < rows) found.served[static_cast<std::size_t>(r)] = false;
  }
  return found;
}

template <class T>
PlainRow plain_row(const Call<T>& call, std::int64_t r) {
  const auto x = row_of(call.x, r, call.n());
  PlainRow row{call.problem.regularization, call.problem.strength.value, rho(call.n()),
               rho(call.n())};
  (call.ranks ? row.z : row.w).assign(x.begin(), x.end());
  return row;
}

template <class T>
std::string complaint_of(const Call<T>& call, std::int64_t r, const Ids& block_z,
                         const Ids& block_w, const Found<T>& found) {
  const std::int64_t n = call.n();
  const PlainRow row = plain_row(call, r);
  const auto result = row_of(call.solved.result, r, n), g = row_of(call.g, r, n);
  const Ids z = row_of(block_z, r, n), w = row_of(block_w, r, n);
  const CotangentReference<T> reference(row, result, z, w, g);
  const auto cotangent = row_of(found.cotangent, r, n);
  return call.ranks ? reference.complaint_of_z(cotangent, 1.0, false)
                    : reference.complaint_of_w(cotangent);
}

template <class T>
struct Forger {
  const Call<T>& call;
  std::vector<Found<T>> honest;  // by each level, and by all that there is

  explicit Forger(const Call<T>& call) : call(call) {
    for (const Solver* level : all_ways()) {
      honest.push_back(vjp(call, call.solved.block_z, call.solved.block_w, level));
      for (std::int64_t r = 0; r < call.rows(); ++r) {
        CHECK(honest.back().served[static_cast<std::size_t>(r)]);
        const auto complaint =
            complaint_of(call, r, call.solved.block_z, call.solved.block_w, honest.back());
        CHECK_MESSAGE(complaint.empty(), complaint);
      }
    }
  }

  static std::vector<const Solver*> all_ways() {
    auto ways = solver_levels();
    ways.push_back(nullptr);
    return ways;
  }

  // Ids of row r.
  void check(std::int64_t r, const Ids& block_z, const Ids& block_w) const {
    const auto ways = all_ways();
    for (std::size_t way = 0; way < ways.size(); ++way) {
      CAPTURE(std::string(ways[way] == nullptr ? "any" : ways[way]->level));
      const auto found = vjp(call, block_z, block_w, ways[way]);
      for (std::int64_t other = 0; other < call.rows(); ++other) {
        if (other == r) continue;
        CHECK(found.served[static_cast<std::size_t>(other)]);
        CHECK(row_of(found.cotangent, other, call.n()) ==
              row_of(honest[way].cotangent, other, call.n()));
      }
      if (!found.served[static_cast<std::size_t>(r)]) continue;
      const auto complaint = complaint_of(call, r, block_z, block_w, found);
      CHECK_MESSAGE(complaint.empty(), complaint);
    }
  }

  // of_w: whether ids of w are forged, else of z. change(ids) changes those of one row.
  template <class Change>
  void check_changed(std::int64_t r, bool of_w, const Change& change) const {
    Ids block_z = call.solved.block_z, block_w = call.solved.block_w;
    change((of_w ? block_w : block_z).data() + r * call.n());
    check(r, block_z, block_w);
  }
};

// A position at which no block starts; 0 if there is none.
std::int32_t inner_position(const Ids& row) {
  const auto n = static_cast<std::int32_t>(row.size());
  for (std::int32_t id = n - 1; id > 0; --id) {
    if (std::find(row.begin(), row.end(), id) == row.end()) return id;
  }
  return 0;
}

// Ids of one element. few: those that cannot be of this row.
template <class T>
std::vector<std::int32_t> bad_ids(const Call<T>& call, bool few) {
  const auto last = static_cast<std::int32_t>(call.n() - 1);
  constexpr auto kMax = std::numeric_limits<std::int32_t>::max();
  constexpr auto kMin = std::numeric_limits<std::int32_t>::min();
  if (few) return {last + 1, kMax, kMin};
  const auto inner = inner_position(row_of(call.solved.block_z, 0, call.n()));
  return {-1,
          -2,
          -3 - last / 2,
          infinite_block(last),
          infinite_block(last) - 1,
          -last,
          last + 1,
          last + 2,
          kMax,
          kMin,
          last,
          last / 2,
          inner,
          0};
}

template <class T>
void check_forged_ids(const Call<T>& call, std::mt19937_64& random, bool few) {
  const std::int64_t n = call.n();
  const Forger<T> forger(call);
  const auto last = static_cast<std::int32_t>(n - 1);
  std::int64_t turn = 0;
  for (const bool of_w : {false, true}) {
    if (call.ranks && of_w && few) continue;
    CAPTURE(of_w);
    for (const std::int32_t id : bad_ids(call, few)) {
      CAPTURE(id);
      // Five elements of short rows; one of long ones, at an end or in the middle.
      const std::int64_t step = n <= 100 ? n / 4 : n;
      for (std::int64_t i = turn++ % 3 * (n - 1) / 2 % step; i < n; i += step) {
        forger.check_changed(turn % call.rows(), of_w, [&](std::int32_t* ids) { ids[i] = id; });
      }
    }
    const auto change_all = [&](const auto& id_of) {
      forger.check_changed(turn % call.rows(), of_w, [&](std::int32_t* ids) {
        for (std::int64_t i = 0; i < n; ++i) ids[i] = static_cast<std::int32_t>(id_of(i));
      });
    };
    change_all([&](std::int64_t i) { return last - i; });
    change_all([&](std::int64_t) { return random() % static_cast<std::uint64_t>(n); });
    if (few) continue;
    change_all([&](std::int64_t) { return random(); });
    change_all([&](std::int64_t) { return last; });
    if (n <= 100'000) change_all([&](std::int64_t) { return 0; });
    change_all([&](std::int64_t i) { return i; });
  }
}

template <class T>
void check_forged_ids(std::int64_t rows, std::int64_t n, unsigned seed, bool few = false) {
  std::mt19937_64 random(seed);
  CAPTURE(n);
  for (const auto& kind :
       {std::pair(Regularization::l2, true), std::pair(Regularization::kl, true),
        std::pair(Regularization::l2, false), std::pair(Regularization::log_kl, false)}) {
    const Regularization regularization = kind.first;
    const bool ranks = kind.second;
    CAPTURE(static_cast<int>(regularization));
    CAPTURE(ranks);
    check_forged_ids(call_of<T>(rows, n, regularization, ranks, random), random, few);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("forged block ids lead nowhere but to their row's derivatives", T, float,
                   double) {
  check_forged_ids<T>(7, 12, 61);
  check_forged_ids<T>(5, 65, 62);
  check_forged_ids<T>(3, 1000, 63);
  check_forged_ids<T>(2, 20000, 64);
  check_forged_ids<T>(1, 140000, 65, true);
}

TEST_CASE_TEMPLATE("forged block ids of rows that go by buckets" * doctest::skip(), T, float,
                   double) {
  check_forged_ids<T>(2, 140000, 66);
}
