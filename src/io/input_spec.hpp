#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mpishards::io {

/// One input as the user names it: FILE or FILE:DATASET (HDF5 only).
struct InputSpec {
  std::string path;
  std::string dataset;  // empty: the format's or the role's default

  friend bool operator==(const InputSpec&, const InputSpec&) = default;
};

/// "FILE" or "FILE:DATASET".
std::string to_string(const InputSpec& spec);

/// Splits at the last ':' that follows an HDF5 suffix (.h5 .hdf5 .he5 .hdf) or whose left side is an existing
/// file; a file name with a colon and no data set stays whole when it exists.
InputSpec parse_input_spec(std::string_view text);

/// Expands globs (sorted by name) and "@list.txt" (one input a line, '#' comments, relative to the list's
/// folder). Every spec without a data set gets `default_dataset` if its file is HDF5.
/// @throws Error{input_missing} where a glob matches nothing or a list can't be read; Error{usage} if nothing
/// is left
std::vector<InputSpec> expand_inputs(const std::vector<std::string>& texts, std::string_view default_dataset);

/// What tells one version of an input file from another, without reading all of it.
struct InputIdentity {
  std::string path;  // as given
  std::int64_t size_bytes = 0;
  std::int64_t mtime_ns = 0;   // nanoseconds since the epoch
  std::uint64_t checksum = 0;  // XXH3-64 of size and of the first and last 64 KiB

  friend bool operator==(const InputIdentity&, const InputIdentity&) = default;
};

/// @throws Error{input_missing|permission|io}
InputIdentity identify(const std::string& path);

}  // namespace mpishards::io
