#pragma once

#include <hdf5.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/hdf5_handle.hpp"

namespace mpishards::test {

/// What a test wants a data set to be; the defaults make a contiguous one.
struct Hdf5DatasetPlan {
  std::string name = "train";
  std::vector<hsize_t> dims;
  hid_t stored = -1;  // type in the file
  hid_t given = -1;   // type of the values in memory
  std::vector<hsize_t> chunk = {};
  unsigned deflate = 0;  // level; 0 for none
  std::function<void(hid_t creation)> adjust = nullptr;
};

/// Adds a data set to an HDF5 file, which is made if it does not exist; groups on the way too.
/// Values may be null: then nothing is written.
inline void add_hdf5_dataset(const std::string& path, const Hdf5DatasetPlan& plan, const void* values,
                             const std::function<void(hid_t dataset)>& decorate = nullptr) {
  using namespace mpishards::io;
  const Hdf5Lock lock;
  const bool there = H5Fis_hdf5(path.c_str()) > 0;
  const H5File file(there ? H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT)
                          : H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT),
                    "H5Fopen or H5Fcreate", path);
  const H5Plist links(H5Pcreate(H5P_LINK_CREATE), "H5Pcreate", path);
  check_hdf5(H5Pset_create_intermediate_group(links.get(), 1), "H5Pset_create_intermediate_group", path);
  const H5Plist creation(H5Pcreate(H5P_DATASET_CREATE), "H5Pcreate", path);
  if (!plan.chunk.empty())
    check_hdf5(H5Pset_chunk(creation.get(), static_cast<int>(plan.chunk.size()), plan.chunk.data()),
               "H5Pset_chunk", path);
  if (plan.deflate > 0) check_hdf5(H5Pset_deflate(creation.get(), plan.deflate), "H5Pset_deflate", path);
  if (plan.adjust) plan.adjust(creation.get());
  const H5Space space(plan.dims.empty()
                          ? H5Screate(H5S_SCALAR)
                          : H5Screate_simple(static_cast<int>(plan.dims.size()), plan.dims.data(), nullptr),
                      "H5Screate", path);
  const H5Dataset dataset(H5Dcreate2(file.get(), plan.name.c_str(), plan.stored, space.get(), links.get(),
                                     creation.get(), H5P_DEFAULT),
                          "H5Dcreate", path);
  if (values != nullptr)
    check_hdf5(H5Dwrite(dataset.get(), plan.given, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), "H5Dwrite", path);
  if (decorate) decorate(dataset.get());
}

}  // namespace mpishards::test
