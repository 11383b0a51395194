#pragma once

#include <memory>

#include "serve/server.hpp"

namespace mpishards::serve {

/// The Milvus protocol over gRPC. @throws Error{unavailable} where the address is taken or TLS files are bad
std::unique_ptr<Front> make_grpc_front(const FrontContext& context);

}  // namespace mpishards::serve
