package api

// What FuzzPaging looks at from outside.

func (p Paging) After() (string, error) { return p.after() }

func (m IfMatch) Version() (int64, error) { return m.version() }

func ETag(version int64) string { return etag(version) }

func Cut(items []string, limit int) Page[string] {
	return cut(items, limit, func(s string) string { return s })
}
