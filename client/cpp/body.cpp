#include "taskpool/body.hpp"

#include "client/cpp/connection.hpp"
#include "client/cpp/mapping.hpp"

namespace taskpool {

Body::Body(Encoding encoding, std::uint32_t count, std::span<const std::byte> bytes,
           std::shared_ptr<client::Mapping> mapping, std::weak_ptr<client::Connection> connection)
    : encoding_{encoding},
      count_{count},
      bytes_{bytes},
      mapping_{std::move(mapping)},
      connection_{std::move(connection)} {}

Body::Body(Body&& other) noexcept
    : encoding_{other.encoding_},
      count_{other.count_},
      owned_{std::move(other.owned_)},
      bytes_{std::exchange(other.bytes_, {})},
      mapping_{std::move(other.mapping_)},
      connection_{std::move(other.connection_)},
      refs_{std::move(other.refs_)} {}

Body& Body::operator=(Body&& other) noexcept {
  if (this == &other) return *this;
  give_back();
  encoding_ = other.encoding_;
  count_ = other.count_;
  owned_ = std::move(other.owned_);
  bytes_ = std::exchange(other.bytes_, {});
  mapping_ = std::move(other.mapping_);
  connection_ = std::move(other.connection_);
  refs_ = std::move(other.refs_);
  return *this;
}

Body::~Body() { give_back(); }

void Body::give_back() {
  if (!mapping_) return;
  if (const auto connection = connection_.lock()) connection->release(*mapping_, bytes_);
  mapping_.reset();
}

void Body::keep() {
  if (!mapping_) return;
  owned_.assign(bytes_.begin(), bytes_.end());
  give_back();
  bytes_ = owned_;
}

UpBuffer::UpBuffer(UpBuffer&& other) noexcept
    : bytes_{std::exchange(other.bytes_, {})},
      place_bytes_{other.place_bytes_},
      mapping_{std::move(other.mapping_)},
      connection_{std::move(other.connection_)} {}

UpBuffer& UpBuffer::operator=(UpBuffer&& other) noexcept {
  if (this == &other) return *this;
  give_back();
  bytes_ = std::exchange(other.bytes_, {});
  place_bytes_ = other.place_bytes_;
  mapping_ = std::move(other.mapping_);
  connection_ = std::move(other.connection_);
  return *this;
}

UpBuffer::~UpBuffer() { give_back(); }

void UpBuffer::give_back() {
  if (!mapping_) return;
  if (const auto connection = connection_.lock()) connection->free(*this);
  mapping_.reset();
  bytes_ = {};
}

}  // namespace taskpool
