#include "core/error.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <set>
#include <string_view>
#include <utility>

namespace mpishards {
namespace {

// The contract with scripts and schedulers: sysexits.h numbers, spelled out.
constexpr std::pair<ErrorKind, int> kExitCodes[] = {
    {ErrorKind::usage, 64},         {ErrorKind::data, 65},     {ErrorKind::input_missing, 66},
    {ErrorKind::unavailable, 69},   {ErrorKind::internal, 70}, {ErrorKind::os, 71},
    {ErrorKind::cannot_create, 73}, {ErrorKind::io, 74},       {ErrorKind::stopped, 75},
    {ErrorKind::permission, 77},    {ErrorKind::config, 78},   {ErrorKind::mpi, 71},
    {ErrorKind::cuda, 69},          {ErrorKind::nccl, 69},
};

TEST(Error, every_kind_has_its_exit_code) {
  for (const auto& [kind, code] : kExitCodes) EXPECT_EQ(exit_code(kind), code) << to_string(kind);
}

TEST(Error, every_kind_has_a_name_of_its_own) {
  std::set<std::string_view> names;
  for (const auto& [kind, code] : kExitCodes) names.insert(to_string(kind));
  EXPECT_EQ(names.size(), std::size(kExitCodes));
}

TEST(Error, remembers_kind_text_and_place) {
  const Error error(ErrorKind::data, "row 7 holds NaN");
  EXPECT_EQ(error.kind(), ErrorKind::data);
  EXPECT_STREQ(error.what(), "row 7 holds NaN");
  EXPECT_NE(std::string_view(error.where().file_name()).find("error_test"), std::string_view::npos);
}

TEST(KindOfErrno, tells_missing_and_forbidden_from_the_rest) {
  EXPECT_EQ(kind_of_errno(ENOENT, ErrorKind::io), ErrorKind::input_missing);
  EXPECT_EQ(kind_of_errno(ENOTDIR, ErrorKind::io), ErrorKind::input_missing);
  EXPECT_EQ(kind_of_errno(EACCES, ErrorKind::io), ErrorKind::permission);
  EXPECT_EQ(kind_of_errno(EPERM, ErrorKind::io), ErrorKind::permission);
  EXPECT_EQ(kind_of_errno(ENOSPC, ErrorKind::io), ErrorKind::io);
  EXPECT_EQ(kind_of_errno(EEXIST, ErrorKind::cannot_create), ErrorKind::cannot_create);
}

}  // namespace
}  // namespace mpishards
