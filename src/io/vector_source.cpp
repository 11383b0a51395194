#include "io/vector_source.hpp"

#include "core/error.hpp"
#include "io/dataset_list.hpp"
#include "io/file.hpp"
#include "io/try_in_child.hpp"
#include "io/vector_source_registry.hpp"

namespace mpishards::io {

void VectorSource::read_ids(std::int64_t, std::int64_t, std::span<GlobalId>) const {
  throw Error(ErrorKind::internal, name() + " has no ids of its own");
}

Matrix VectorSource::read_matrix(std::int64_t begin, std::int64_t end) const {
  Matrix matrix(dtype(), end - begin, cols());
  read_rows(begin, end, matrix.data());
  return matrix;
}

std::unique_ptr<VectorSource> open_source(const InputSpec& spec) {
  // A missing file is said to be missing even if its suffix is unknown too.
  if (!exists(spec.path)) File::open_read(spec.path);
  const SuffixRow& row = suffix_row_of(spec.path);
  if (!spec.dataset.empty() && row.format.format != "hdf5")
    throw Error(ErrorKind::usage, to_string(spec) + ": only HDF5 files have data sets; give " + spec.path);
  return row.open(spec, row.dtype);
}

std::unique_ptr<VectorSource> open_sources(const std::vector<InputSpec>& specs) {
  std::vector<std::unique_ptr<VectorSource>> sources;
  for (const InputSpec& spec : specs) sources.push_back(open_source(spec));
  return concatenate(std::move(sources));
}

void probe_in_child(const InputSpec& spec) {
  if (!is_hdf5_path(spec.path)) return;
  try_in_child(to_string(spec), [&] {
    const std::unique_ptr<VectorSource> source = open_source(spec);
    source->read_matrix(0, 1);
    source->read_matrix(source->rows() - 1, source->rows());
  });
}

void probe_listing_in_child(const std::string& path) {
  if (!is_hdf5_path(path)) return;
  try_in_child(path, [&] { list_datasets(path); });
}

}  // namespace mpishards::io
