// libFuzzer's entry: see hostile_rows.h for what a string of bytes stands for.
#include <cstdio>
#include <cstdlib>

#include "hostile_rows.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string complaint = diffsort::testing::complaint_of_hostile_call(data, size, 5000);
  if (complaint.empty()) return 0;
  std::fprintf(stderr, "%s\n", complaint.c_str());
  std::abort();
}
