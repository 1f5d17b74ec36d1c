"""Reading and writing at a local path, an ``s3://bucket/key`` or any fsspec URL, with the same functions.

    paths      taking paths and URLs apart
    s3         the S3 client: server, credentials, retries, requests; s3_settings, s3_errors beside it, and a client
               for each library that can make the requests
    files      read, write, list and delete files and folders
    prefetch   the next item is loaded while one is in use
    manifest   the files of a store, and whether all of them are there
    locks      one run at a time for one target
    targets    work folders: what is made, resumed, thrown away
    publication  complete or absent: what was made appears in one step
    groups     Zarr groups and their arrays
    datasets   stores as xarray datasets, opened and saved
    views      what a store holds, seen without xarray
    scratch    temporary folders of this machine

A target is complete or absent. It is written under ``TARGET.work`` and moved into place at the end: see
:mod:`cagdask.storage.targets`.
"""

from cagdask.storage.datasets import load_dataset, open_dataset, save_dataset
from cagdask.storage.files import (
    check_protocol,
    check_reach,
    exists,
    filesystem,
    list_files,
    make_folder,
    open_by_tail,
    open_output,
    read_bytes,
    read_json,
    read_range,
    remove,
    size_of,
    write_bytes,
    write_json,
)
from cagdask.storage.groups import (
    ID_CHUNK,
    create_array,
    create_group,
    find_damage,
    finish_group,
    open_array,
    open_group,
    open_store,
    with_all_chunks,
    write_array,
)
from cagdask.storage.locks import claimed
from cagdask.storage.manifest import damaged, published
from cagdask.storage.paths import (
    absolute,
    is_remote,
    is_s3,
    join,
    local_path,
    name_of,
    parent_of,
    scheme_of,
    work_folder,
)
from cagdask.storage.prefetch import ahead
from cagdask.storage.publication import publications_noted, publish
from cagdask.storage.targets import (
    abandon_work,
    begin_work,
    check_target,
    end_work,
    is_taken,
    removals_beside,
    staged_store,
)
from cagdask.storage.views import StoreView, look

__all__ = [
    "ID_CHUNK",
    "StoreView",
    "abandon_work",
    "absolute",
    "ahead",
    "begin_work",
    "check_protocol",
    "check_reach",
    "check_target",
    "claimed",
    "create_array",
    "create_group",
    "damaged",
    "end_work",
    "exists",
    "filesystem",
    "find_damage",
    "finish_group",
    "is_remote",
    "is_s3",
    "is_taken",
    "join",
    "list_files",
    "load_dataset",
    "local_path",
    "look",
    "make_folder",
    "name_of",
    "open_array",
    "open_by_tail",
    "open_dataset",
    "open_group",
    "open_output",
    "open_store",
    "parent_of",
    "publications_noted",
    "publish",
    "published",
    "read_bytes",
    "read_json",
    "read_range",
    "removals_beside",
    "remove",
    "save_dataset",
    "scheme_of",
    "size_of",
    "staged_store",
    "with_all_chunks",
    "work_folder",
    "write_array",
    "write_bytes",
    "write_json",
]
