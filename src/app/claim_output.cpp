#include "app/claim_output.hpp"

#include <filesystem>

#include "core/error.hpp"
#include "io/file.hpp"

namespace mpishards::app {

namespace {

bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return a == b || std::filesystem::equivalent(a, b, ignored);
}

}  // namespace

io::OutputLock claim_output(const OutputClaim& claim) {
  for (const std::string& input : claim.input_paths) {
    bool replaced = input == claim.out_path;
    for (const std::string& file : claim.files) replaced = replaced || is_same_file(file, input);
    if (replaced) throw Error(ErrorKind::usage, input + " is input and output at once; name another output");
  }
  io::OutputLock lock = io::OutputLock::acquire(claim.out_path);
  if (io::Journal::exists(claim.out_path))
    throw Error(ErrorKind::cannot_create, claim.out_path +
                                              " is the output of a stopped search, which can be continued; "
                                              "write to another name, or remove " +
                                              claim.out_path + ".journal to give that search up");
  return lock;
}

void refuse_existing(const std::vector<std::string>& files) {
  for (const std::string& path : files)
    if (io::exists(path))
      throw Error(ErrorKind::cannot_create,
                  path + " exists; name another output or allow its replacement with --overwrite");
}

}  // namespace mpishards::app
