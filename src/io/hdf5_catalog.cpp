#include "io/hdf5_catalog.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>

#include "core/edit_distance.hpp"
#include "core/error.hpp"

namespace mpishards::io {

namespace {

constexpr std::string_view kSignature = "\x89HDF\r\n\x1a\n";
constexpr std::size_t kMaxDatasets = 512;
constexpr std::size_t kMaxListed = 12;

/// First bytes of a file in words: quoted where they are text, else in hexadecimal.
std::string start_of(const File& file) {
  std::array<unsigned char, 16> bytes{};
  const auto n = std::min(bytes.size(), static_cast<std::size_t>(file.size_bytes()));
  file.read_at(0, bytes.data(), n);
  const bool is_text =
      std::all_of(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n),
                  [](unsigned char c) { return (c >= 32 && c < 127) || (c >= 9 && c <= 13); });
  std::string text = is_text ? "\"" : "bytes";
  for (std::size_t i = 0; i < n; ++i) {
    std::array<char, 8> hex{};
    std::snprintf(hex.data(), hex.size(), " %02x", bytes[i]);
    if (is_text)
      text += bytes[i] < 32 ? ' ' : static_cast<char>(bytes[i]);
    else
      text += hex.data();
  }
  return is_text ? text + "...\"" : text;
}

struct Visit {
  std::vector<std::string> datasets;
};

extern "C" herr_t collect_dataset(hid_t, const char* name, const H5O_info_t* info, void* visit) {
  auto& datasets = static_cast<Visit*>(visit)->datasets;
  if (info->type == H5O_TYPE_DATASET) datasets.push_back(std::string("/").append(name));
  return datasets.size() < kMaxDatasets ? 0 : 1;
}

extern "C" herr_t refuse_external_link(const char*, const char*, const char*, const char*, unsigned*, hid_t,
                                       void*) {
  return -1;
}

std::string without_leading_slash(const std::string& path) {
  return path.starts_with('/') ? path.substr(1) : path;
}

std::string base_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

/// The data set whose name is closest, or nothing where none is close.
std::string nearest(const std::vector<std::string>& datasets, const std::string& wanted) {
  const std::string name = without_leading_slash(wanted);
  std::string best;
  std::size_t best_distance = 1 + std::max<std::size_t>(2, name.size() / 3);
  for (const std::string& dataset : datasets) {
    const std::size_t distance = std::min(edit_distance(without_leading_slash(dataset), name),
                                          1 + edit_distance(base_name(dataset), base_name(name)));
    if (distance < best_distance) {
      best_distance = distance;
      best = dataset;
    }
  }
  return best;
}

enum class Target { missing, group, dataset, other };

/// What a path inside the file leads to. Walks one link after the other, since HDF5 answers only for the
/// last.
Target target_of(const H5File& file, const std::string& path, const std::string& dataset) {
  const H5Plist access = hdf5_dataset_access();
  const std::string whole = std::string("/").append(without_leading_slash(dataset));
  Target target = Target::group;
  for (std::size_t end = 0; end != std::string::npos;) {
    if (target != Target::group) return Target::missing;
    end = whole.find('/', end + 1);
    const std::string prefix = whole.substr(0, end);
    if (prefix == "/" || prefix.ends_with('/')) continue;  // "//" and a '/' at the end name nothing new
    if (check_hdf5(H5Lexists(file.get(), prefix.c_str(), access.get()), "H5Lexists", path + ":" + prefix) ==
        0)
      return Target::missing;
    H5L_info_t link{};
    check_hdf5(H5Lget_info(file.get(), prefix.c_str(), &link, access.get()), "H5Lget_info",
               path + ":" + prefix);
    if (link.type == H5L_TYPE_EXTERNAL)
      throw Error(ErrorKind::data,
                  path + ":" + prefix + " is a link into another file; name that file itself");
    if (link.type == H5L_TYPE_SOFT && check_hdf5(H5Oexists_by_name(file.get(), prefix.c_str(), access.get()),
                                                 "H5Oexists_by_name", path + ":" + prefix) == 0)
      return Target::missing;
    H5O_info_t info{};
    check_hdf5(H5Oget_info_by_name2(file.get(), prefix.c_str(), &info, H5O_INFO_BASIC, access.get()),
               "H5Oget_info_by_name", path + ":" + prefix);
    target = info.type == H5O_TYPE_GROUP     ? Target::group
             : info.type == H5O_TYPE_DATASET ? Target::dataset
                                             : Target::other;
  }
  return target;
}

}  // namespace

bool has_hdf5_signature(const std::string& path) {
  const Hdf5Lock lock;
  return H5Fis_hdf5(path.c_str()) > 0;
}

void require_hdf5_signature(const File& file) {
  const std::int64_t size = file.size_bytes();
  std::array<char, kSignature.size()> found{};
  for (std::int64_t at = 0; at + static_cast<std::int64_t>(found.size()) <= size;
       at = at == 0 ? 512 : 2 * at) {
    file.read_at(at, found.data(), found.size());
    if (std::string_view(found.data(), found.size()) == kSignature) return;
  }
  throw Error(ErrorKind::data, file.path() + " is not an HDF5 file (it starts with " + start_of(file) + ")");
}

std::vector<std::string> list_hdf5_datasets(const H5File& file, const std::string& path) {
  Visit visit;
  check_hdf5(H5Ovisit2(file.get(), H5_INDEX_NAME, H5_ITER_INC, collect_dataset, &visit, H5O_INFO_BASIC),
             "H5Ovisit", path);
  return std::move(visit.datasets);
}

bool has_hdf5_dataset(const H5File& file, const std::string& path, const std::string& dataset) {
  const Target target = target_of(file, path, dataset);
  if (target == Target::missing || target == Target::dataset) return target == Target::dataset;
  throw Error(ErrorKind::data, path + ":" + dataset + " is a " +
                                   (target == Target::group ? "group" : "named type") +
                                   ", expected a data set; give FILE:DATASET");
}

void throw_missing_dataset(const H5File& file, const std::string& path, const std::string& dataset) {
  const std::vector<std::string> datasets = list_hdf5_datasets(file, path);
  std::string message = path + " has no data set " + dataset + "; it has ";
  for (std::size_t i = 0; i < std::min(datasets.size(), kMaxListed); ++i)
    message += (i == 0 ? "" : ", ") + datasets[i];
  if (datasets.size() > kMaxListed)
    message += " and " + std::to_string(datasets.size() - kMaxListed) + " more";
  if (datasets.empty()) message += "none at all";
  const std::string guess = nearest(datasets, dataset);
  if (!guess.empty()) message += "; did you mean " + path + ":" + guess + "?";
  throw Error(ErrorKind::input_missing, message);
}

H5Plist hdf5_dataset_access() {
  H5Plist access(H5Pcreate(H5P_DATASET_ACCESS), "H5Pcreate", "data set access", ErrorKind::internal);
  check_hdf5(H5Pset_elink_cb(access.get(), refuse_external_link, nullptr), "H5Pset_elink_cb",
             "data set access", ErrorKind::internal);
  return access;
}

}  // namespace mpishards::io
