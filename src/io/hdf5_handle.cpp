#include "io/hdf5_handle.hpp"

#include <algorithm>
#include <new>
#include <vector>

namespace mpishards::io {

namespace {

/// Innermost causes are the ones worth reading; the outer levels repeat "can't open" in other words.
constexpr std::size_t kMaxCauses = 3;

extern "C" herr_t collect_cause(unsigned, const H5E_error2_t* entry, void* causes) {
  auto& list = *static_cast<std::vector<std::string>*>(causes);
  const std::string text = entry->desc == nullptr ? "" : entry->desc;
  if (!text.empty() && std::find(list.begin(), list.end(), text) == list.end()) list.push_back(text);
  return 0;
}

std::string causes_on_stack() {
  std::vector<std::string> causes;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, collect_cause, &causes);
  H5Eclear2(H5E_DEFAULT);
  std::string text;
  for (std::size_t i = 0; i < std::min(causes.size(), kMaxCauses); ++i)
    text += (i == 0 ? "" : ", ") + causes[i];
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text.empty() ? "no cause given" : text;
}

std::recursive_mutex& make_quiet(std::recursive_mutex& mutex) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  return mutex;
}

}  // namespace

std::recursive_mutex& hdf5_mutex() {
  static std::recursive_mutex mutex;
  static std::recursive_mutex& quiet = make_quiet(mutex);
  return quiet;
}

void reset_hdf5_mutex_after_fork() {
  new (&hdf5_mutex()) std::recursive_mutex;
}

void throw_hdf5(const char* call, const std::string& subject, ErrorKind kind, std::source_location where) {
  throw Error(kind, subject + ": HDF5 " + call + " failed: " + causes_on_stack(), where);
}

H5Plist hdf5_file_access() {
  const Hdf5Lock lock;
  H5Plist access(H5Pcreate(H5P_FILE_ACCESS), "H5Pcreate", "file access", ErrorKind::internal);
  // The environment variable outranks this setting inside the library.
  check_hdf5(H5Pset_file_locking(access.get(), false, true), "H5Pset_file_locking", "file access",
             ErrorKind::internal);
  check_hdf5(H5Pset_fclose_degree(access.get(), H5F_CLOSE_SEMI), "H5Pset_fclose_degree", "file access",
             ErrorKind::internal);
  return access;
}

H5File open_hdf5_read(const std::string& path) {
  const Hdf5Lock lock;
  const H5Plist access = hdf5_file_access();
  return H5File(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), "H5Fopen", path);
}

}  // namespace mpishards::io
