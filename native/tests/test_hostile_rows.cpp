#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "hostile_rows.h"

using namespace diffsort::testing;

namespace {

void check_hostile_calls(int count, unsigned seed, std::int64_t longest) {
  std::mt19937_64 random(seed);
  for (int call = 0; call < count; ++call) {
    std::vector<std::uint8_t> bytes(400);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    const std::string complaint = complaint_of_hostile_call(bytes.data(), bytes.size(), longest);
    CAPTURE(seed);
    CAPTURE(call);
    CHECK_MESSAGE(complaint.empty(), complaint);
  }
}

}  // namespace

TEST_CASE("hostile rows are solved right or marked, and disturb no others") {
  check_hostile_calls(1500, 1, 1000);
  check_hostile_calls(60, 2, 5000);
}

TEST_CASE("a long form of hostile rows" * doctest::skip()) {
  for (unsigned seed = 3; seed < 13; ++seed) check_hostile_calls(20000, seed, 200'000);
}
