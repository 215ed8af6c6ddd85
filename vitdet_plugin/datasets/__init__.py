"""Data sets: readers, converters, checks, statistics and splits.

========== ==================================================================================
readers    ``coco`` (COCO json), ``image_sets`` (class folders, list files, COCO), ``image_files`` (suffixes),
           ``image_probe`` (one image file)
formats    ``formats`` (what ``vitdet init`` and ``vitdet convert`` read, each format in a module), ``yolo_rows``,
           ``voc_xml``
converters ``to_coco`` from all formats, ``from_coco`` to VOC and YOLO; ``conversion`` has their common parts
checks     ``checks`` (annotations, images and class folders, before a run or for a whole data set)
statistics ``set_stats`` (classes, sizes, duplicates), ``pixel_stats`` (mean and standard deviation)
splits     ``split``
registered ``lvis``, ``rectangle_batches``, ``class_balanced_sampler``, ``token_labels``
========== ==================================================================================
"""
