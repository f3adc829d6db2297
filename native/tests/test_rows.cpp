#include <doctest/doctest.h>

#include <vector>

#include "diffsort/rows.h"

using namespace diffsort;

TEST_CASE("rows are counted in C order of the batch axes") {
  // A (2, 3, 4) array in Fortran order, rows along its last axis.
  RowSpace space;
  space.batch_dims = 2;
  space.batch_shape[0] = 2;
  space.batch_shape[1] = 3;
  space.length = 4;
  CHECK(space.rows() == 6);
  Strides strides;
  strides.along = 6;
  strides.batch[0] = 1;
  strides.batch[1] = 2;
  for (int a = 0; a < 2; ++a) {
    for (int b = 0; b < 3; ++b) CHECK(strides.row_offset(space, a * 3 + b) == a + 2 * b);
  }
}

TEST_CASE("strides may be zero or negative") {
  RowSpace space;
  space.batch_dims = 1;
  space.batch_shape[0] = 3;
  space.length = 2;
  std::vector<float> data{0, 1, 2, 3, 4, 5};
  Rows<const float> reversed{data.data() + 5, {}};
  reversed.strides.along = -1;
  reversed.strides.batch[0] = -2;
  CHECK(reversed.row(space, 0)[0] == 5);
  CHECK(reversed.row(space, 2)[1] == 0);
  Rows<const float> broadcast{data.data(), {}};
  broadcast.strides.along = 1;
  broadcast.strides.batch[0] = 0;
  CHECK(broadcast.row(space, 2)[1] == 1);
  CHECK_FALSE(Rows<const float>{}.row(space, 1));
}

TEST_CASE("one number per row is read in float32 and float64") {
  RowSpace space;
  space.batch_dims = 1;
  space.batch_shape[0] = 2;
  PerRow per_row;
  per_row.value = 0.25;
  CHECK(per_row.row(space, 1) == 0.25);
  const float single[] = {0.5f, 0.75f};
  per_row.data = single;
  per_row.is_float32 = true;
  per_row.strides.batch[0] = 1;
  CHECK(per_row.row(space, 1) == 0.75);
  const double twice[] = {1.5, 2.5};
  per_row.data = twice;
  per_row.is_float32 = false;
  CHECK(per_row.row(space, 1) == 2.5);
}
