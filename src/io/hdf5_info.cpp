#include "io/hdf5_info.hpp"

#include <hdf5.h>

#include "io/hdf5_handle.hpp"

namespace mpishards::io {

namespace {

struct FilterRow {
  H5Z_filter_t id;
  const char* name;
};

// The library's own, then plugins by their registered numbers.
constexpr FilterRow kFilters[] = {
    {H5Z_FILTER_DEFLATE, "gzip"},
    {H5Z_FILTER_SHUFFLE, "shuffle"},
    {H5Z_FILTER_FLETCHER32, "fletcher32"},
    {H5Z_FILTER_SZIP, "szip"},
    {32000, "lzf"},
    {32001, "blosc"},
    {32004, "lz4"},
    {32008, "bitshuffle"},
    {32015, "zstd"},
};

}  // namespace

Hdf5Info hdf5_info() {
  const Hdf5Lock lock;
  Hdf5Info info;
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  check_hdf5(H5get_libversion(&major, &minor, &release), "H5get_libversion", "the HDF5 library",
             ErrorKind::unavailable);
  info.version = std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
#ifdef H5_HAVE_PARALLEL
  info.parallel = true;
#endif
  hbool_t thread_safe = false;
  check_hdf5(H5is_library_threadsafe(&thread_safe), "H5is_library_threadsafe", "the HDF5 library",
             ErrorKind::unavailable);
  info.thread_safe = thread_safe;
  for (const FilterRow& row : kFilters)
    (H5Zfilter_avail(row.id) > 0 ? info.filters : info.missing_filters).emplace_back(row.name);
  return info;
}

}  // namespace mpishards::io
