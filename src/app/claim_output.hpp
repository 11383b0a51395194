#pragma once

#include <string>
#include <vector>

#include "io/journal.hpp"

namespace mpishards::app {

/// What a command is about to write, and from what.
struct OutputClaim {
  std::string out_path;                  // as the user named it
  std::vector<std::string> files;        // that it will consist of
  std::vector<std::string> input_paths;  // that must survive
};

/// The right to write OUT anew, for commands that write it in one go.
/// @throws Error{usage} where an input would be replaced; Error{cannot_create} while another process has it,
/// or where a stopped search waits to be continued
io::OutputLock claim_output(const OutputClaim& claim);

/// Where nothing may be replaced. @throws Error{cannot_create} naming the first file that is there
void refuse_existing(const std::vector<std::string>& files);

}  // namespace mpishards::app
