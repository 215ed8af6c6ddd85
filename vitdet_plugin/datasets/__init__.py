"""Data sets: readers, converters, checks, statistics and splits.

========== ==================================================================================
readers    ``coco`` (COCO json), ``image_sets`` (class folders, list files, COCO), ``image_files`` (suffixes),
           ``image_probe`` (one image file)
formats    ``formats`` (what ``vitdet init`` reads, each format in a module), ``yolo_rows`` and ``voc_xml``
converters ``from_voc`` and ``from_yolo`` to COCO, ``from_coco`` back; ``conversion`` has their common parts
checks     ``checks`` (annotations, images and class folders, before a run or for a whole data set)
statistics ``set_stats`` (classes, sizes, duplicates), ``pixel_stats`` (mean and standard deviation)
splits     ``split``
registered ``lvis``, ``rectangle_batches``, ``token_labels``
========== ==================================================================================
"""
