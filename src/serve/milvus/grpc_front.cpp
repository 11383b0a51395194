#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <limits>
#include <string>

#include "core/error.hpp"
#include "io/file.hpp"
#include "serve/front.hpp"
#include "serve/milvus/milvus_service.hpp"

namespace mpishards::serve {

namespace {

/// Clients ping every 10 s, also while no call is open; gRPC's own limits would close their connections.
constexpr int kShortestPingIntervalMs = 5'000;
constexpr int kOwnPingIntervalMs = 60'000;
constexpr int kOwnPingTimeoutMs = 10'000;
/// Headers are few and small; tokens and trace contexts fit.
constexpr int kMetadataBytes = 16 << 10;

/// Answers RPCs that the .proto files don't have.
class UnknownRpcs final : public grpc::CallbackGenericService {
 public:
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    class Refusal final : public grpc::ServerGenericBidiReactor {
     public:
      explicit Refusal(const std::string& method) {
        Finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "mpishards has no " + method));
      }
      void OnDone() override { delete this; }
    };
    return new Refusal(context->method());
  }
};

std::shared_ptr<grpc::ServerCredentials> credentials(const ServerConfig& config) {
  if (config.tls_cert.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options;
  options.pem_key_cert_pairs.push_back({io::read_text(config.tls_key), io::read_text(config.tls_cert)});
  return grpc::SslServerCredentials(options);
}

class GrpcFront final : public Front {
 public:
  explicit GrpcFront(const FrontContext& context) : service_(context), listen_(context.config.listen) {
    const ServerConfig& config = context.config;
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort(listen_, credentials(config), &port_);
    builder.SetMaxReceiveMessageSize(static_cast<int>(config.message_bytes));
    builder.SetMaxSendMessageSize(std::numeric_limits<int>::max());
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                               kShortestPingIntervalMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kOwnPingIntervalMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kOwnPingTimeoutMs);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytes);
    // A second server on the same port is an error, not a partner.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.RegisterService(&service_);
    builder.RegisterCallbackGenericService(&unknown_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || (port_ == 0 && !listen_.starts_with("unix:")))
      throw Error(ErrorKind::unavailable,
                  "can't listen on " + listen_ +
                      ": is the port taken, the address this host's, the certificate valid?");
  }

  ~GrpcFront() override { shut_down(std::chrono::system_clock::now()); }

  std::string address() const override {
    if (listen_.starts_with("unix:")) return listen_;
    return listen_.substr(0, listen_.rfind(':') + 1) + std::to_string(port_);
  }

  void shut_down(std::chrono::system_clock::time_point deadline) override {
    if (server_ == nullptr) return;
    server_->Shutdown(deadline);
    server_->Wait();
    server_.reset();
  }

 private:
  milvus::MilvusService service_;
  UnknownRpcs unknown_;
  std::string listen_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

std::unique_ptr<Front> make_grpc_front(const FrontContext& context) {
  return std::make_unique<GrpcFront>(context);
}

}  // namespace mpishards::serve
