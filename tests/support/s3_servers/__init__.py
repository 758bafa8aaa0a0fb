"""S3 servers for tests: moto, MinIO, directory buckets, and a fault proxy in front of any.

Everything that stands between a client and a server is a *handler*: it takes a request and gives a
reply. Handlers are stacked (`faults` on `directory_bucket` on `backend`) and served by `HttpProxy`.
"""
