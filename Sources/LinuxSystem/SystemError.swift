public import Glibc

/// What a layer of Hull throws: a sentence for a person, an exit code for a script, and the cause below.
public protocol HullError: Error, CustomStringConvertible {
    /// One sentence: the operation, the object, and how to mend it.
    var sentence: String { get }
    /// The exit code a command ends with when this error is its end: 125 where nothing more precise is known.
    var exitCode: Int32 { get }
    /// What a lower layer said.
    var cause: (any Error)? { get }
}

extension HullError {
    public var exitCode: Int32 { 125 }
    public var cause: (any Error)? { nil }
    /// The sentence and those of its causes, outermost first.
    public var description: String {
        guard let cause else { return sentence }
        return "\(sentence): \(cause)"
    }
}

/// A system call that failed.
public struct SystemError: HullError, Equatable {
    /// What was being done, e.g. `open`.
    public var operation: String
    /// What it was done to; empty when the operation says it all.
    public var object: String
    /// The errno.
    public var code: Int32

    /// Notes the failure of `operation` on `object`; `code` is the current errno unless given.
    public init(_ operation: String, _ object: String = "", code: Int32 = errno) {
        self.operation = operation
        self.object = object
        self.code = code
    }

    public var sentence: String {
        let reason = String(cString: strerror(code))
        return object.isEmpty ? "\(operation): \(reason)" : "\(operation) \(object): \(reason)"
    }
}

/// Throws a `SystemError` when `result` is negative, as most system calls report failure; repeats on EINTR.
@discardableResult
public func checked<R: SignedInteger>(
    _ operation: String, _ object: @autoclosure () -> String = "", _ call: () -> R
) throws(SystemError) -> R {
    while true {
        let result = call()
        if result >= 0 { return result }
        if errno != EINTR { throw SystemError(operation, object()) }
    }
}
