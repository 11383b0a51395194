#include "io/result_files.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/error.hpp"

namespace mpishards::io {

namespace {

struct FormatRow {
  ResultFormat format;
  std::string_view name;
  std::string_view suffix;
};

constexpr FormatRow kFormats[] = {
    {ResultFormat::h5, "h5", ".h5"},
    {ResultFormat::npy, "npy", ".npy"},
    {ResultFormat::ibin, "ibin", ".ibin"},
    {ResultFormat::csr, "csr", ".csr.h5"},
};

/// Formats that a user may expect from a name and would not get.
constexpr std::string_view kForeignSuffixes[] = {".fbin",  ".u8bin", ".i8bin",  ".fvecs", ".bvecs",
                                                 ".ivecs", ".npz",   ".csv",    ".tsv",   ".txt",
                                                 ".json",  ".jsonl", ".parquet"};

}  // namespace

std::string_view to_string(ResultFormat format) {
  return kFormats[static_cast<std::size_t>(format)].name;
}

ResultFormat result_format_from_string(std::string_view text) {
  std::string names;
  for (const FormatRow& row : kFormats) {
    if (row.name == text) return row.format;
    names += (names.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error(ErrorKind::usage, "unknown result format '" + std::string(text) + "'; known: " + names);
}

ResultFormat result_format_of(const std::string& out_path) {
  for (const FormatRow& row : kFormats)
    if (out_path.ends_with(row.suffix)) return row.format;
  for (const std::string_view suffix : kForeignSuffixes)
    if (out_path.ends_with(suffix))
      throw Error(ErrorKind::usage,
                  "no result is written as " + std::string(suffix) + " (" + out_path +
                      "); end the output in .h5, .npy or .ibin, or name its format with --format");
  return ResultFormat::h5;
}

ResultFiles files_of(const std::string& out_path, ResultFormat format) {
  switch (format) {
    case ResultFormat::h5:
    case ResultFormat::csr:
      return {{out_path}, ""};
    case ResultFormat::ibin:
      return {{out_path}, out_path + ".attributes.json"};
    case ResultFormat::npy:
      break;
  }
  const std::string stem = out_path.ends_with(".npy") ? out_path.substr(0, out_path.size() - 4) : out_path;
  return {{stem + ".neighbors.npy", stem + ".distances.npy"}, out_path + ".attributes.json"};
}

std::string partial_of(const std::string& path) {
  return path + ".partial";
}

std::string saved_metadata_of(const std::string& out_path) {
  return out_path + ".partial.metadata";
}

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

void require_output_place(const std::string& out_path, OutputKind kind) {
  const std::string folder = folder_of(out_path);
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0) {
    const bool denied = errno == EACCES;
    throw Error(
        denied ? ErrorKind::permission : ErrorKind::cannot_create,
        denied ? "can't look into folder " + folder + " of output " + out_path + ": " + std::strerror(errno)
               : "folder " + folder + " of output " + out_path + " does not exist; create it first");
  }
  if (!S_ISDIR(status.st_mode))
    throw Error(ErrorKind::cannot_create,
                folder + ", the folder of output " + out_path + ", is not a directory");
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    throw Error(errno == EACCES ? ErrorKind::permission : ErrorKind::cannot_create,
                "can't write into folder " + folder + " of output " + out_path + ": " + std::strerror(errno));
  if (::stat(out_path.c_str(), &status) != 0) return;
  if (kind == OutputKind::file && S_ISDIR(status.st_mode))
    throw Error(ErrorKind::cannot_create, "output " + out_path + " is a directory, expected a file name");
  if (kind == OutputKind::directory && !S_ISDIR(status.st_mode))
    throw Error(ErrorKind::cannot_create, "output " + out_path + " is a file, expected a directory's name");
}

std::vector<std::string> result_paths(const std::string& out_path, ResultFormat format) {
  ResultFiles files = files_of(out_path, format);
  if (!files.attributes.empty()) files.arrays.push_back(files.attributes);
  return files.arrays;
}

bool partial_exists(const std::string& out_path, ResultFormat format) {
  for (const std::string& path : files_of(out_path, format).arrays)
    if (exists(partial_of(path))) return true;
  return false;
}

void remove_partial(const std::string& out_path, ResultFormat format) {
  std::error_code ignored;  // what can't be removed is noticed when it is written
  for (const std::string& path : files_of(out_path, format).arrays)
    std::filesystem::remove(partial_of(path), ignored);
  std::filesystem::remove(saved_metadata_of(out_path), ignored);
}

void undo_publication(const std::string& out_path, ResultFormat format) {
  for (const std::string& path : files_of(out_path, format).arrays)
    if (!exists(partial_of(path)) && exists(path)) publish(path, partial_of(path));
}

File open_shared_output(const std::string& path) {
  if (!exists(path))
    throw Error(ErrorKind::io, "this host does not see " + path +
                                   "; the output must lie on a file system that all ranks share");
  return File::open_write(path, false);
}

}  // namespace mpishards::io
