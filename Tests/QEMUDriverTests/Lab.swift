import CLinux
import Glibc
import LinuxSystem
import Machines
import Testing

@testable import QEMUDriver
