"""Small images in the pipelines of a config."""


def shrink_pipeline(pipeline: list, scale: tuple[int, int], crop_size: tuple[int, int]) -> None:
    """Set the sizes of all steps in place, those of random choices too.

    Args:
        pipeline: Configs of transforms.
        scale: Width and height for resizing to one size; random sizes are 64 or 96 pixels.
        crop_size: Height and width of crops.
    """
    sides = [(64, 64), (96, 96)]
    for step in pipeline:
        for branch in step.get('transforms', []):
            shrink_pipeline(branch, scale, crop_size)
        for key, value in (('scale', scale), ('scales', sides), ('crop_size', crop_size)):
            if key in step:
                step[key] = sides if key == 'scale' and step.type == 'RandomResize' else value
