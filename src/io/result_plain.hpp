#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/results_writer.hpp"

/// The forms of an unfinished result without a library of their own, npy and ibin: a header, then the rows.
namespace mpishards::io {

/// One such file: what it begins with, and its whole size.
struct PlainFile {
  std::string path;
  std::string header;
  std::int64_t size_bytes = 0;
};

struct PlainResult {
  ResultLayout layout;
  std::vector<PlainFile> files;
};

/// @pre format is npy or ibin
PlainResult plain_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k);

/// Makes the files in their whole size. @throws Error{cannot_create|permission|io}
void create_plain(const PlainResult& result);

/// @throws Error{data} where a file is not the one that create_plain made
void check_plain(const PlainResult& result);

}  // namespace mpishards::io
