public import LinuxSystem

/// Volumes: named folders that outlive containers.
public struct Volumes: Sendable {
  /// `root` is made when it is missing.
  public init(root: String) throws { fatalError("API first; the body follows in the next commits") }

  /// The volume `name`, made when it is missing. With nil an anonymous one with a random name.
  public func make(_ name: String?, labels: [String: String] = [:]) throws -> Volume { fatalError() }
  public func find(_ name: String) throws -> Volume { fatalError() }
  public func list() throws -> [Volume] { fatalError() }
  /// Throws when `users` names any container.
  public func remove(_ name: String, users: (String) throws -> [String]) throws { fatalError() }
}

/// A volume.
public struct Volume: Sendable, Equatable {
  public let name: String
  public let isAnonymous: Bool
  public let labels: [String: String]
  /// RFC 3339.
  public let created: String
  /// The folder with its content.
  public let path: String
}
