import Testing

extension IntegrationTests {
    /// The image verbs.
    @Suite struct ImageVerbs {
        let lab = Lab.shared

        @Test func pullListRemove() throws {
            let id = try lab.good("pull", "-q", lab.image).word
            #expect(id.hasPrefix("sha256:") && id.count == 71)
            let line = try #require(lab.good("images").lines.last)
            #expect(line.contains(id.dropFirst(7).prefix(12)))
            #expect(try lab.good("images", "-q", "--no-trunc").word == id)
            _ = try lab.box()
            let busy = try lab.hull("rmi", lab.image)
            #expect(busy.code != 0 && busy.errors.contains("box"), "\(busy.errors)")
            #expect(try lab.hull("rmi", "no-such-image").code != 0)
            #expect(try lab.good("images", "-q").lines.count == 1)
            #expect(try lab.hull("pull", "rootfs:/").errors.contains("no image"))
        }
    }
}
