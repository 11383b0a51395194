#include "io/dataset_list.hpp"

#include "io/hdf5_catalog.hpp"
#include "io/hdf5_handle.hpp"
#include "io/vector_source_contiguous.hpp"
#include "io/vector_source_registry.hpp"

namespace mpishards::io {

std::vector<std::string> list_datasets(const std::string& path) {
  if (!is_hdf5_path(path)) return {};
  require_hdf5_signature(open_data_file(path));
  const Hdf5Lock lock;
  const H5File file = open_hdf5_read(path);
  return list_hdf5_datasets(file, path);
}

std::string ids_beside(const std::string& dataset) {
  return dataset.substr(0, dataset.rfind('/') + 1) + "ids";
}

}  // namespace mpishards::io
